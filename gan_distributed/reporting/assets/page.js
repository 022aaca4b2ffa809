// The page: charts in their frames, the slider through the grids, the table of numbers, and the look for newer pages.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("numbers-json").textContent);
  const shared = {
    unit: "kimg",
    at: null,
    span(unit) {
      const ends = page.axes.flatMap(axis => axis[unit]).filter(value => value !== null);
      return [0, ends.length ? Math.max(...ends) || 1 : 1];
    },
    choose: place => slider.show(slider.nearest(place)),
  };
  const remembered = name => page.version && sessionStorage.getItem(name);
  const remember = (name, value) => page.version && sessionStorage.setItem(name, value);

  // One step of the slider for each age of which any run has a grid; a run shows its newest grid up to there.
  const slider = (() => {
    const input = document.getElementById("slider"), button = document.getElementById("play");
    const images = [...document.querySelectorAll("#samples img")];
    const ages = [...new Set(page.runs.flatMap(run => run.grids.map(grid => grid.kimg)))].sort((a, b) => a - b);
    const gridAt = (run, age) => run.grids.filter(grid => grid.kimg <= age).pop() || run.grids[0];
    let timer = null;

    function show(step) {
      if (!input || !(step in ages)) return;
      input.value = step;
      let hours = null;
      for (const image of images) {
        const grid = gridAt(page.runs[image.dataset.run], ages[step]);
        image.src = grid.url;
        image.alt = grid.alt;
        image.parentElement.querySelector("output").textContent = `${Charts.told(grid.kimg)} kimg`;
        if (grid.kimg === ages[step]) hours = grid.hours;
      }
      input.setAttribute("aria-valuetext", `${Charts.told(ages[step])} kimg`);
      // At rest, on the newest grids, no line.
      shared.at = step === ages.length - 1 ? null : shared.unit === "kimg" ? ages[step] : hours;
      remember("step", step === ages.length - 1 ? "" : String(step));
      charts.forEach(chart => chart.plot.redraw(false));
    }

    function nearest(place) {
      const grids = page.runs.flatMap(run => run.grids).filter(grid => grid[shared.unit] !== null);
      if (!grids.length) return -1;
      const best = grids.reduce((a, b) => Math.abs(b[shared.unit] - place) < Math.abs(a[shared.unit] - place) ? b : a);
      return ages.indexOf(best.kimg);
    }

    function play() {
      const stop = timer !== null;
      if (stop) clearInterval(timer);
      timer = stop ? null : setInterval(() => Number(input.value) < ages.length - 1 ? show(Number(input.value) + 1) : play(), 250);
      button.textContent = stop ? "Play" : "Stop";
      if (!stop && Number(input.value) === ages.length - 1) show(0);
    }

    function start() {
      if (!input || ages.length < 2) return;
      input.max = ages.length - 1;
      input.parentElement.hidden = false;
      input.addEventListener("input", () => show(Number(input.value)));
      button.addEventListener("click", play);
      const before = remembered("step");
      show(before ? Math.min(Number(before), ages.length - 1) : ages.length - 1);
    }
    return {show, nearest, start, current: () => show(Number(input.value))};
  })();

  const charts = [...document.querySelectorAll(".plot")].map(
    holder => new Charts.Chart(page, page.charts[holder.dataset.chart], holder, shared));
  slider.start();

  function redraw() {
    charts.forEach(chart => chart.draw());
    slider.current();
  }
  for (const radio of document.querySelectorAll("input[name=axis]")) {
    radio.addEventListener("change", () => {
      shared.unit = radio.value;
      remember("unit", radio.value);
      redraw();
    });
    if (radio.value === remembered("unit") && radio.value !== "kimg") radio.click();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = 0;
  new ResizeObserver(() => {
    if (width === document.body.clientWidth) return;
    width = document.body.clientWidth;
    charts.forEach(chart => chart.resize());
  }).observe(document.body);

  // The same numbers for those who cannot see the charts, or want to copy them; made when they are asked for.
  const numbers = document.getElementById("numbers");
  numbers.addEventListener("toggle", () => {
    const holder = numbers.querySelector(".wide");
    if (!numbers.open || holder.firstChild) return;
    for (const chart of page.charts) {
      const {data} = Charts.columns(page, chart, "kimg");
      const table = holder.appendChild(document.createElement("table"));
      table.createCaption().textContent = [chart.title, chart.unit].filter(Boolean).join(", ");
      const head = table.createTHead().insertRow();
      for (const name of ["kimg", ...chart.series.map(line => line.label)]) {
        const cell = head.appendChild(document.createElement("th"));
        cell.scope = "col";
        cell.textContent = name;
      }
      const body = table.createTBody();
      data[0].forEach((place, index) => {
        const row = body.insertRow();
        data.forEach(column => row.insertCell().textContent = Charts.told(column[index]));
      });
    }
  });

  // A live page looks whether there is a newer one, and takes it where its reader is.
  if (page.version) setInterval(async () => {
    try {
      const answer = await fetch("version", {cache: "no-store"});
      if (answer.ok && (await answer.text()) !== page.version) location.reload();
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
    }
  }, 3000);
})();
