"""What people at a terminal see: colour, tables as wide as it is, a bar of progress. The only file that imports rich.

Where nobody sits, tables are plain columns and there is no bar. NO_COLOR turns colour off, as rich has it.
"""

import functools
import sys
import threading
from collections.abc import Sequence
from typing import Any

_COLOURS = {"error": "bold red", "warning": "yellow"}
# A bar costs the thread of the loop nothing, its own thread little.
_REFRESHES_PER_S = 2


def tell(level: str, line: str) -> None:
    """Write a line to a terminal on stderr, above the bar where there is one.   line: without its level."""
    from rich.text import Text

    text = Text(line) if level == "info" else Text.assemble((f"{level}:", _COLOURS.get(level, "dim")), " ", line)
    _console(is_stderr=True).print(text, soft_wrap=True)


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout: drawn on a terminal, else in columns of spaces."""
    if not sys.stdout.isatty():
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            told = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write(told.rstrip() + "\n")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _console(is_stderr=False).print(table)


class Bar:
    """How far something is, at the bottom of a terminal on stderr: share, amount, note, time left. For any thread."""

    def __init__(self, total: float, unit: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._total = total
        # A signal's handler may close it within `at`.
        self._lock = threading.RLock()
        self._task: Any = None
        amount = TextColumn(f"{{task.completed:,g}} of {{task.total:,g}} {unit}")
        columns = (BarColumn(), amount, TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        console = _console(is_stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=_REFRESHES_PER_S)

    def at(self, done: float, note: str = "") -> None:
        """So much is done. The bar is drawn from the first time on, and its rate counts from there."""
        with self._lock:
            if self._task is None:
                self._progress.start()
                self._task = self._progress.add_task("", total=self._total, completed=done, note=note)  # type: ignore[arg-type]
            else:
                self._progress.update(self._task, completed=done, note=note)

    def close(self) -> None:
        """Take the bar away. Must happen before the process ends, since a bar hides the cursor."""
        with self._lock:
            self._progress.stop()


@functools.cache
def _console(*, is_stderr: bool) -> Any:
    from rich.console import Console

    return Console(stderr=is_stderr, highlight=False, markup=False, emoji=False)
