"""`submit` called in this process: its exit code, what it printed, and the documents of that."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import typer

from gan_distributed.deployment.manifest_text import from_text
from gan_distributed.errors import GanError
from gan_distributed.submit import submit

APP = typer.Typer()
APP.command()(submit)
COMMAND = typer.main.get_command(APP)
RECIPE = "jobs/cifar10-r3gan.yaml"
PLACES = ["--data", "gs://bucket/set", "--output", "gs://bucket/runs"]


@dataclass(frozen=True)
class Submitted:
    """The end of a submission."""

    code: int
    stdout: str
    stderr: str
    error: BaseException | None

    @property
    def documents(self) -> list[dict[str, Any]]:
        assert self.code == 0, self.stderr or self.error
        return from_text(self.stdout, "submit")


def submitted(*words: str) -> Submitted:
    """Run `submit` with these words from the working folder."""
    error, code = None, 0
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = COMMAND.main(list(words), standalone_mode=False, prog_name="submit")
        except GanError as raised:
            error, code = raised, raised.exit_code
    return Submitted(code, printed.getvalue(), said.getvalue(), error)
