"""`report`: writes one page, says what is wrong in a line, follows a run that goes on."""

import re
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import Browser, program
from commands import Background, run
from servers import get

sys.path.insert(0, str(Path(__file__).parent / "reporting"))
from written_runs import add_grid, add_ticks, files_below, tick, write_run


def report(*words: object):
    return run([sys.executable, "-m", "gan_distributed.report", *map(str, words)])


@pytest.fixture
def one(tmp_path):
    return write_run(str(tmp_path / "runs" / "one"), [tick(100), tick(200)], samples=(0, 200))


def test_a_page_is_written_and_written_again(one, tmp_path):
    for words in ([one.url], [one.url, "--search-s", 0, "--max-mb", 0.5]):
        ended = report(*words, tmp_path / "page.html")
        assert ended.returncode == 0, ended.stderr
        assert re.fullmatch(rf"{tmp_path}/page.html  \(0\.\d MB\)\n", ended.stdout)
        page = (tmp_path / "page.html").read_text()
        assert page.startswith("<!doctype html>")
        assert "<h1>one</h1>" in page
        # Its data set is nowhere.
        assert "names no data set; give --data URL" in page


def test_mistakes_are_told_and_nothing_is_written(one, tmp_path):
    (tmp_path / "empty").mkdir()
    before = files_below(tmp_path)
    cases = {
        "whose name ends in .html": (one.url,),
        "empty: not a run": (tmp_path / "empty", tmp_path / "page.html"),
        "a run is given twice": (one.url, one.url, tmp_path / "page.html"),
        "page.html: not a run; give OUTPUT/RUN_ID": (one.url, tmp_path / "page.html", "--serve"),
        "999.999.999.999 --port 0": (one.url, "--serve", "--port", 0, "--host", "999.999.999.999"),
    }
    for told, words in cases.items():
        ended = report(*words)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
        assert told in ended.stderr
    assert files_below(tmp_path) == before


@pytest.mark.skipif(program() is None, reason="no browser: install the package chromium")
def test_a_live_page_follows_the_run(one, tmp_path):
    words = [sys.executable, "-m", "gan_distributed.report", one.url, "--serve", "--port", "0"]
    with Background(words, tmp_path / "log") as server, Browser() as browser:
        server.wait_for_line("serving http://127.0.0.1:")
        url = re.search(r"serving (\S+);", server.log())[1]
        browser.look(1280)
        browser.open(url)
        place = "document.querySelector('#samples output').textContent"
        assert browser.value(place) == "0.2 kimg"
        browser.value("document.getElementById('slider').focus()")
        browser.press("Home")
        browser.value("document.querySelector('input[value=hours]').click()")
        assert get(f"{url}version") == get(f"{url}version")
        add_ticks(one, [tick(300)])
        add_grid(one, 300)
        browser.wait_for("document.getElementById('slider')?.max === '2'")
        # Where its reader was.
        assert browser.value(f"[{place}, document.querySelector('input[value=hours]').checked]") == ["0 kimg", True]
        assert [asked for asked in browser.requests if not asked.startswith((url, "data:"))] == []
        assert browser.complaints == []
        for path, data in (("elsewhere", None), ("", b"x")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{url}{path}", data, timeout=60)
            assert refused.value.code in (404, 501)
            refused.value.close()
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 130
