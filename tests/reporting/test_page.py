"""The page in a real browser: draws, is operated by the keyboard, asks for nothing, and runs nothing of a run's."""

from pathlib import Path

import pytest
from browser import Browser, program
from datasets import write_dataset
from written_runs import interrupted, score, tick, write_run

from gan_distributed.config import Change
from gan_distributed.data.manifest import load_manifest
from gan_distributed.reporting import making
from gan_distributed.reporting.dataset import DataSet, Refused
from gan_distributed.reporting.making import Maker

pytestmark = pytest.mark.skipif(program() is None, reason="no browser: install the package chromium")
# A page where any of this became HTML or script would have an element #injected or a variable `injected`.
HOSTILE = "\"'><b id=injected></b><script>injected=1</script><!--</script><img src=x onerror=injected=1>${injected=1}"
FOLDER = "'><b id=injected><script>injected=1<&\"`${injected=1}"


def say(line: str) -> None:
    """Lines for the user do not matter here."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of a hostile run, and one that compares two runs."""
    folder = tmp_path_factory.mktemp("pages")
    change = Change(field=HOSTILE, old=HOSTILE, new=1, seen_images=300, attempt=2)
    ticks = [record | {"device": HOSTILE} for record in interrupted()]
    scores = [score(seen, 9 - seen / 200, features=HOSTILE) for seen in (200, 400, 800)]
    parts = {"scores": scores, "samples": (0, 300, 600, 1000), "changes": (change,), "checkpoints": (900,)}
    rollback = {"to_seen_images": 600, "reason": HOSTILE, "cause": "nonfinite"}
    hostile = write_run(
        str(folder / FOLDER), ticks, rollbacks=(rollback,), **parts, **{"data.url": HOSTILE, "score.features": HOSTILE}
    )
    plain = write_run(str(folder / "plain"), [tick(seen) for seen in range(100, 600, 100)], samples=(0, 500))
    write_dataset(str(folder / "data"))
    manifest = load_manifest(str(folder / "data"))
    names = (HOSTILE, "</dl>", "&amp;")
    data = DataSet(HOSTILE, manifest.model_copy(update={"class_names": names}), [Refused(HOSTILE, 3, HOSTILE)], 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "open_dataset", lambda run, url: data)
        (folder / "hostile.html").write_bytes(Maker([hostile.url], None, 10**6, 0.0, say).page())
    (folder / "both.html").write_bytes(Maker([hostile.url, plain.url], None, 10**6, 0.0, say).page())
    return folder


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        found.look(1280)
        yield found


@pytest.fixture
def opened(browser, pages):
    browser.look(1280)
    browser.open(pages / "hostile.html")
    yield browser
    assert browser.complaints == []


INK = """[...document.querySelectorAll('canvas')].map(canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
})"""


def test_nothing_is_asked_of_a_network_and_nothing_of_a_run_is_html(opened):
    assert [url for url in opened.requests if not url.startswith(("file:///", "data:"))] == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    assert opened.value("[typeof injected, document.querySelectorAll('#injected').length]") == ["undefined", 0]
    assert opened.value("document.querySelector('h1').textContent") == FOLDER
    assert opened.value("document.querySelectorAll('body b, body > img').length") == 0
    shown = opened.value("document.body.textContent")
    assert shown.count(HOSTILE) >= 8
    for place in ("#summary", "#events", "#data .counts", "#data table", "#configuration", ".protocol"):
        assert HOSTILE in opened.value(f"document.querySelector('{place}').textContent"), place


def test_a_script_that_got_into_the_page_would_not_run(opened):
    said = opened.value(
        """(() => {
          const script = document.createElement('script');
          try { script.textContent = 'injected = 1'; } catch (error) { return error.name; }
          document.body.append(script);
          return typeof injected;
        })()"""
    )
    assert said == "TypeError"
    opened.complaints.clear()


def test_every_chart_draws_its_lines(opened):
    inks = opened.value(INK)
    assert len(inks) == opened.value("document.querySelectorAll('.plot').length") >= 6
    # A blank canvas has one colour, axes alone a dozen shades of grey.
    assert min(inks) > 12
    assert opened.value("[...document.querySelectorAll('.charts output')].every(one => one.textContent !== '')")


def test_the_slider_moves_the_picture_by_keyboard(opened):
    image, place = "document.querySelector('#samples img')", "document.querySelector('#samples output').textContent"
    opened.value("document.getElementById('slider').focus()")
    seen = [(opened.value(f"{image}.src"), opened.value(place))]
    for key in ("ArrowLeft", "ArrowLeft", "Home", "End"):
        opened.press(key)
        seen.append((opened.value(f"{image}.src"), opened.value(place)))
    assert [place for _, place in seen] == ["1 kimg", "0.6 kimg", "0.3 kimg", "0 kimg", "1 kimg"]
    assert len({picture for picture, _ in seen}) == 4
    assert opened.value("document.getElementById('slider').getAttribute('aria-valuetext')") == "1 kimg"
    assert opened.value(f"{image}.complete && {image}.naturalWidth > 0")


def test_a_chart_tells_its_values_by_keyboard_and_shows_the_grid_of_a_time(opened):
    opened.value("document.querySelector('.plot').focus()")
    told = []
    for key in ("Home", "ArrowRight", "Enter"):
        opened.press(key)
        told.append(opened.value("document.activeElement.getAttribute('aria-valuetext')"))
    assert told == ["0.2 kimg: fid 8", "0.4 kimg: fid 7", "0.4 kimg: fid 7"]
    assert opened.value("document.querySelector('#samples output').textContent") == "0.3 kimg"
    tip = opened.value("document.querySelector('.tip:not([hidden])').textContent")
    assert tip.startswith("0.4 kimg\nfid 7\n")
    assert "num_fake 1000" in tip


def test_hours_instead_of_kimg(opened):
    opened.value("document.querySelector('input[value=hours]').click()")
    opened.value("document.querySelector('.plot').focus()")
    opened.press("Home")
    assert "hours: fid 8" in opened.value("document.activeElement.getAttribute('aria-valuetext')")
    assert min(opened.value(INK)) > 12


def test_the_numbers_as_a_table(opened):
    opened.value("document.querySelector('#numbers summary').click()")
    opened.wait_for("document.querySelectorAll('#numbers table').length > 0")
    rows = opened.value("[...document.querySelector('#numbers table').rows].map(row => row.textContent)")
    assert rows == ["kimgfid", "0.28", "0.47", "0.85"]


@pytest.mark.parametrize("name", ["hostile", "both"])
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False), (320, True)])
def test_narrow_and_dark(browser, pages, name, width, dark, tmp_path):
    browser.look(width, dark=dark)
    browser.open(pages / f"{name}.html")
    browser.picture(tmp_path / "page.png")
    assert browser.value("document.documentElement.scrollWidth") <= width
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 100) == dark
    assert min(browser.value(INK)) > 12
    assert browser.complaints == []


def test_charts_follow_the_width_of_the_window(opened):
    for width in (390, 1280, 700):
        opened.look(width)
        opened.wait_for(
            "[...document.querySelectorAll('.charts figure')].every("
            "one => Math.abs(one.querySelector('.uplot').offsetWidth - one.clientWidth) < 2)"
        )


def test_all_that_can_be_operated_has_a_name_and_every_picture_a_description(opened):
    nodes = opened.ask("Accessibility.getFullAXTree")["nodes"]
    names = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in ("slider", "button", "radio", "image", "link", "table")
    }
    assert {"slider", "button", "radio", "image", "link"} <= {role for role, _ in names}
    assert [role for role, name in names if not name] == []


def test_two_runs_beside_one_another(browser, pages):
    browser.look(1280)
    browser.open(pages / "both.html")
    assert browser.value("document.querySelectorAll('#samples img').length") == 2
    assert browser.value("[...document.querySelectorAll('#samples output')].map(one => one.textContent)") == [
        "1 kimg",
        "0.5 kimg",
    ]
    fields = browser.value("[...document.querySelectorAll('#configuration tbody th')].map(one => one.textContent)")
    assert fields == ["data.url", "score.features"]
    charts = browser.value("[...document.querySelectorAll('.charts figcaption')].map(one => one.textContent)")
    (loss,) = [told for told in charts if told.startswith("Loss, generator")]
    assert "plain" in loss
    browser.value("document.getElementById('slider').focus()")
    browser.press("Home")
    assert browser.value("[...document.querySelectorAll('#samples output')].map(one => one.textContent)") == [
        "0 kimg",
        "0 kimg",
    ]
    assert browser.complaints == []


def test_a_run_that_has_only_begun(browser, tmp_path):
    run = write_run(str(tmp_path / "r"), [])
    page = Path(tmp_path / "page.html")
    page.write_bytes(Maker([run.url], None, 10**6, 0.0, say).page())
    browser.open(page)
    assert "No tick was recorded yet" in browser.value("document.body.textContent")
    assert browser.complaints == []
