"""What a person at a terminal sees: a bar while it trains, colour unless NO_COLOR is set; plain columns in a pipe."""

import contextlib
import io
import os
import pty
import re
import threading

import pytest
from datasets import write_dataset
from in_process import train_here

from gan_distributed import command, terminal

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch):
    """What both streams are to be: a terminal of 200 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    terminal._console.cache_clear()
    command.log_to_stderr()
    yield Screen()
    terminal._console.cache_clear()


@contextlib.contextmanager
def shown_on(screen):
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        yield


def test_levels_are_coloured_and_words_are_not_markup(screen):
    with shown_on(screen):
        command.say("error: [bold]no[/bold] such file: 12 images")
    assert screen.getvalue() == "\x1b[1;31merror:\x1b[0m [bold]no[/bold] such file: 12 images\n"


def test_no_color(screen, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with shown_on(screen):
        command.say("error: no such file")
        terminal.write_table(["run"], [["faces"]])
    assert "\x1b[3" not in screen.getvalue()
    assert ESCAPES.sub("", screen.getvalue()).split() == ["error:", "no", "such", "file", "run", "faces"]


def test_a_table_is_columns_in_a_pipe_and_fits_a_terminal(screen, monkeypatch, capsys):
    rows = [["a-very-long-name-of-a-run", "done"], ["b", ""]]
    terminal.write_table(["run", "status"], rows)
    plain = capsys.readouterr().out.splitlines()
    assert plain == ["run                        status", "a-very-long-name-of-a-run  done", "b"]
    monkeypatch.setenv("COLUMNS", "20")
    with shown_on(screen):
        terminal.write_table(["run", "status"], rows)
    shown = ESCAPES.sub("", screen.getvalue()).splitlines()
    assert max(map(len, shown)) <= 20
    assert re.sub(r"\s|done", "", "".join(shown)) == "runstatusa-very-long-name-of-a-runb"


def test_training_on_a_real_terminal(tmp_path, monkeypatch):
    """A bar that lines are told above, and that leaves a cursor behind."""
    write_dataset(str(tmp_path / "data"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    leader, follower = pty.openpty()
    told: list[bytes] = []
    reader = threading.Thread(target=_read, args=(leader, told))
    reader.start()
    terminal._console.cache_clear()
    with open(follower, "w", buffering=1) as stream, contextlib.redirect_stderr(stream):
        command.log_to_stderr()
        with command.progress(0.096, "kimg"):
            train_here(tmp_path, str(tmp_path / "data"), "training.tick_kimg=0.032")
        shown_to_the_end = command.is_on_terminal()
    reader.join(30)
    os.close(leader)
    command.log_to_stderr()
    assert shown_to_the_end
    text = b"".join(told).decode()
    plain = ESCAPES.sub("", text).replace("\r", "")
    assert "0.096 of 0.096 kimg" in plain
    assert plain.count("run: ") == 1
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def _read(leader: int, told: list[bytes]) -> None:
    while True:
        try:
            more = os.read(leader, 65536)
        # What a terminal answers when its other end is closed.
        except OSError:
            return
        if not more:
            return
        told.append(more)
