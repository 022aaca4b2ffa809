// Charts over a shared horizontal axis: lines, events, the slider's place; values where the pointer or the keyboard is.
// Texts of a run only ever go into textContent. Holds no page logic; page.js calls `Charts`.
"use strict";
const Charts = (() => {
  const HEIGHT = 168, FONT = "11px system-ui, sans-serif", COLOURS = 6;
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const fits = new Intl.NumberFormat("en", {maximumSignificantDigits: 4});
  const tick = new Intl.NumberFormat("en", {maximumSignificantDigits: 4, notation: "compact"});
  const small = new Intl.NumberFormat("en", {maximumSignificantDigits: 2, notation: "scientific"});

  function told(value, format = fits) {
    if (value === null || value === undefined) return "–";
    return value !== 0 && Math.abs(value) < 1e-3 ? small.format(value) : format.format(value);
  }

  // Columns over one rising axis; undefined where another line has a point and this one has none.
  function columns(page, chart, unit) {
    const tables = chart.series.map(line => {
      const places = page.axes[line.axis][unit];
      const known = places.map((place, index) => index).filter(index => places[index] !== null);
      const rising = known.filter((index, at) => at === 0 || places[index] > places[known[at - 1]]);
      const values = rising.map(index => line.values[index] !== null && chart.logarithmic && line.values[index] <= 0 ? null : line.values[index]);
      const spread = line.spread && rising.map(index => line.spread[index]);
      return {data: [rising.map(index => places[index]), values], spread};
    });
    const data = tables.length === 1 ? tables[0].data : uPlot.join(tables.map(table => table.data));
    return {data, tables};
  }

  // The index of the value nearest to a place of the axis, -1 where a line has none.
  function nearest(xs, ys, x) {
    let best = -1;
    for (let index = 0; index < xs.length; index++) {
      if (ys[index] === null || ys[index] === undefined) continue;
      if (best < 0 || Math.abs(xs[index] - x) < Math.abs(xs[best] - x)) best = index;
    }
    return best;
  }

  function line(u, x, colour, dash, from = 0, to = 1) {
    const at = Math.round(u.valToPos(x, "x", true)) + 0.5;
    if (at < u.bbox.left - 1 || at > u.bbox.left + u.bbox.width + 1) return;
    const ctx = u.ctx;
    ctx.save();
    ctx.strokeStyle = colour;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash(dash.map(length => length * devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(at, u.bbox.top + u.bbox.height * from);
    ctx.lineTo(at, u.bbox.top + u.bbox.height * to);
    ctx.stroke();
    ctx.restore();
  }

  class Chart {
    constructor(page, chart, holder, shared) {
      Object.assign(this, {page, chart, holder, shared});
      this.outputs = [...holder.parentElement.querySelectorAll("figcaption output")];
      holder.tabIndex = 0;
      holder.setAttribute("role", "slider");
      holder.setAttribute("aria-valuemin", 0);
      holder.addEventListener("keydown", event => this.key(event));
      holder.addEventListener("blur", () => this.plot.setCursor({left: -10, top: -10}));
      this.draw();
    }

    draw() {
      const {page, chart, holder, shared} = this, unit = shared.unit;
      if (this.plot) this.plot.destroy();
      const {data, tables} = columns(page, chart, unit);
      const [muted, faint, text] = ["--muted", "--rule", "--text"].map(style);
      const colours = Array.from({length: COLOURS}, (_, slot) => style(`--c${slot}`));
      Object.assign(this, {data, tables, muted, accent: style("--accent"), colours});
      const points = data[0].length;
      const axis = {stroke: text, font: FONT, grid: {stroke: faint, width: 1}, ticks: {stroke: faint, width: 1, size: 4}, gap: 4};
      const options = {
        width: Math.max(200, holder.clientWidth), height: HEIGHT, padding: [8, 8, 0, 0],
        legend: {show: false},
        cursor: {y: false, drag: {x: true, y: false}, sync: {key: "report", scales: ["x", null]}, points: {size: 6}},
        scales: {
          x: {time: false, range: (u, low, high) => this.isWhole(low, high) ? shared.span(unit) : [low, high]},
          y: chart.logarithmic ? {distr: 3} : {range: (u, low, high) => this.bounds(low, high)},
        },
        axes: [
          {...axis, size: 28, space: 60, values: (u, values) => values.map(value => told(value, tick))},
          {...axis, size: 48, space: 28, values: (u, values) => values.map(value => value === null ? "" : told(value, tick))},
        ],
        series: [{}, ...chart.series.map(one => ({
          label: one.label, stroke: colours[one.slot % COLOURS], width: 1.5,
          points: {show: points < 40, size: 4, fill: colours[one.slot % COLOURS]},
        }))],
        hooks: {drawAxes: [u => this.marks(u)], setCursor: [u => this.read(u)]},
      };
      this.plot = new uPlot(options, data, holder);
      this.plot.over.addEventListener("click", () => this.chosen());
      holder.setAttribute("aria-label", `${chart.title}, ${chart.series.map(one => one.label).join(", ")}, by ${unit}`);
      holder.setAttribute("aria-valuemax", Math.max(0, points - 1));
      this.read(this.plot);
    }

    isWhole(low, high) {
      const xs = this.data[0];
      return !xs.length || (low === xs[0] && high === xs[xs.length - 1]) || low === high;
    }

    bounds(low, high) {
      if (this.chart.bounds) return this.chart.bounds;
      if (low === null) return [0, 1];
      const edge = (high - low || Math.abs(high) || 1) * 0.06;
      return [low >= 0 && low - edge < 0 ? 0 : low - edge, high + edge];
    }

    marks(u) {
      const several = this.page.runs.length > 1;
      this.page.runs.forEach((run, index) => run.events.forEach(event => {
        const x = event[this.shared.unit];
        if (x === null || event.kind === "start") return;
        const own = several ? this.colours[index % COLOURS] : this.muted;
        if (event.kind === "checkpoint") line(u, x, own, [], 0.95, 1);
        else line(u, x, own, event.kind === "restart" ? [4, 3] : [1, 3]);
      }));
      if (this.shared.at !== null) line(u, this.shared.at, this.accent, []);
    }

    // What the lines are at the cursor; without one, at their ends.
    read(u) {
      const {idx, left} = u.cursor, inside = idx !== null && idx !== undefined && left >= 0;
      const xs = this.data[0], texts = [];
      this.chart.series.forEach((one, index) => {
        const ys = this.data[index + 1];
        const at = nearest(xs, ys, inside ? xs[idx] : xs[xs.length - 1]);
        let text = at < 0 ? "–" : told(ys[at]);
        const spread = at < 0 ? null : this.spreadAt(index, xs[at]);
        if (spread !== null && spread !== undefined) text += ` ± ${told(spread)}`;
        if (this.outputs[index]) this.outputs[index].textContent = text;
        texts.push(`${one.label} ${text}`);
      });
      const place = inside ? `${told(xs[idx])} ${this.shared.unit}` : "at the end";
      this.holder.setAttribute("aria-valuenow", inside ? idx : Math.max(0, xs.length - 1));
      this.holder.setAttribute("aria-valuetext", `${place}: ${texts.join(", ")}`);
      this.tip(u, inside ? place : null, texts);
    }

    spreadAt(index, x) {
      const {data, spread} = this.tables[index];
      return spread ? spread[data[0].indexOf(x)] : null;
    }

    // Beside the pointer: where it is; for scores also how they were taken.
    tip(u, place, texts) {
      if (!this.note) {
        this.note = document.createElement("div");
        this.note.className = "tip";
        this.note.setAttribute("aria-hidden", "true");
      }
      if (this.note.parentElement !== u.over) u.over.append(this.note);
      // Only where the pointer or the focus is; on the other charts the cursor's line is enough.
      const own = this.holder.matches(":hover") || this.holder === document.activeElement;
      this.note.hidden = place === null || !own;
      if (this.note.hidden) return;
      const short = value => value.length > 40 ? `${value.slice(0, 12)}…` : value;
      const protocol = Object.entries(this.chart.protocol || {}).map(([name, value]) => `${name} ${short(value)}`);
      this.note.textContent = [place, ...texts, protocol.join(" · ")].filter(Boolean).join("\n");
      const right = u.cursor.left > u.over.clientWidth / 2;
      this.note.classList.toggle("left", right);
      this.note.style.left = right ? "auto" : `${u.cursor.left + 10}px`;
      this.note.style.right = right ? `${u.over.clientWidth - u.cursor.left + 10}px` : "auto";
    }

    key(event) {
      const xs = this.data[0], moves = {ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity};
      if (event.key === "Enter") return this.chosen();
      if (event.key === "Escape") return this.plot.setCursor({left: -10, top: -10});
      if (!(event.key in moves) || !xs.length) return;
      event.preventDefault();
      const {idx, left} = this.plot.cursor, inside = idx !== null && idx !== undefined && left >= 0;
      const from = inside ? idx : moves[event.key] > 0 ? -1 : xs.length;
      const to = Math.min(xs.length - 1, Math.max(0, from + moves[event.key]));
      this.plot.setCursor({left: this.plot.valToPos(xs[to], "x"), top: this.plot.over.clientHeight / 2});
    }

    chosen() {
      const {idx, left} = this.plot.cursor;
      // A drag leaves a selection, which zooms.
      if (idx !== null && idx !== undefined && left >= 0 && this.plot.select.width === 0) this.shared.choose(this.data[0][idx]);
    }

    resize() {
      this.plot.setSize({width: Math.max(200, this.holder.clientWidth), height: HEIGHT});
    }
  }

  return {Chart, columns, told};
})();
