"""How every command speaks and ends: lines on stderr as text or JSON, one clear line for an error, an exit code.

Holds no verb. What is said and what is logged go one way. Every verb takes the same options of how much is told.
"""

import contextlib
import functools
import inspect
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Annotated, Any, Literal

import typer

from gan_distributed import terminal
from gan_distributed.errors import GanError, InputError

EXIT_INPUT_WRONG = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_LEVELS = ("warning", "error")

Format = Literal["text", "json"]
Loudness = Literal["quiet", "usual", "verbose"]
_LogFormat = Annotated[
    Format,
    typer.Option(envvar="GAN_DISTRIBUTED_LOG_FORMAT", help="Lines on stderr: text to read, or a JSON object an event."),
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Tell warnings, errors and the result only.")]
_Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Tell more: each request tried again, and where an error comes from.")
]


def run(*functions: Callable[..., Any], name: str | None = None, help_: str | None = None) -> None:
    """Run one verb, or several as sub-commands, on the process's arguments, and leave the process.

    help_: what the name alone tells.
    A GanError is printed as its message alone; anything else is a bug and keeps its traceback.
    """
    app = application(*functions, name=name, help_=help_)
    # typer brings its own copy of click in some releases; its errors are found through typer.
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except usage_error as error:
        _tell_usage(error)
        sys.exit(EXIT_INPUT_WRONG)
    except GanError as error:
        say(f"error: {error}")
        debug("".join(traceback.format_exception(error)).rstrip())
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _tell_usage(error: Any) -> None:
    """One line for wrong words on the command line; the help itself where there were none."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    told = error.format_message().replace("Value error, ", "").rstrip(".")
    # Not every error of the command line knows of which command it is.
    where = f" (see `{error.ctx.command_path} --help`)" if getattr(error, "ctx", None) is not None else ""
    say(f"error: {told[:1].lower()}{told[1:]}{where}")


def application(*functions: Callable[..., Any], name: str | None = None, help_: str | None = None) -> Any:
    """The verbs as one typer application."""
    app = typer.Typer(
        name=name,
        help=help_,
        add_completion=len(functions) > 1,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for function in functions:
        app.command(function.__name__.replace("_", "-"))(_told_how_to_speak(function))
    return app


def _told_how_to_speak(function: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with the options that every verb takes behind its own."""

    @functools.wraps(function)
    def verb(*, log_format: Format, quiet: bool, verbose: bool, **own: Any) -> Any:
        if quiet and verbose:
            raise InputError("--quiet and --verbose: give one of them")
        log_to_stderr(log_format, "quiet" if quiet else "verbose" if verbose else "usual")
        return function(**own)

    added = {"log_format": (_LogFormat, "text"), "quiet": (_Quiet, False), "verbose": (_Verbose, False)}
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in added.items()
    ]
    # typer reads both.
    signature = inspect.signature(function)
    verb.__annotations__ = function.__annotations__ | {name: kind for name, (kind, _) in added.items()}
    verb.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *options]
    )
    return verb


class _Voice:
    """How lines are told, and what is known about all of them."""

    format: Format = "text"
    loudness: Loudness = "usual"
    run: str | None = None
    kimg: float | None = None
    bar: terminal.Bar | None = None

    def tell(self, level: str, message: str, rank: int | None, **more: str) -> None:
        """Write one event."""
        if level == "info" and self.loudness == "quiet":
            return
        if is_on_terminal():
            terminal.tell(level, message)
            return
        if self.format == "json":
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            event = {"time": now, "level": level, "run": self.run, "rank": rank, "kimg": self.kimg, "message": message}
            line = json.dumps(event | more, ensure_ascii=False)
        else:
            line = message if level == "info" else f"{level}: {message}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


_voice = _Voice()


def say(line: str, rank: int | None = None) -> None:
    """One line of progress or log, to stderr; results go to stdout.

    line: `warning: …` or `error: …` where it is one.   rank: whose words they are, None for the command's own.
    """
    level, colon, message = line.partition(": ")
    if colon and level in _LEVELS:
        _voice.tell(level, message, rank)
    else:
        _voice.tell("info", line, rank)


def about(run: str | None = None, kimg: float | None = None) -> None:
    """What the lines to come are about; None leaves it as it is."""
    if run is not None:
        _voice.run = run
    if kimg is not None:
        _voice.kimg = round(kimg, 3)
        # A resumed run does not begin at 0, from which its rate would be counted.
        if _voice.bar is not None and kimg > 0:
            _voice.bar.at(_voice.kimg)


@contextlib.contextmanager
def progress(total: float, unit: str) -> Iterator[Callable[[float, str], None] | None]:
    """A bar on the terminal for the time of the block, and what moves it (done, note); None where nobody watches.

    Where it counts kimg, `about` moves it, too.
    """
    if not is_on_terminal() or _voice.loudness == "quiet":
        yield None
        return
    bar = terminal.Bar(total, unit)
    if unit == "kimg":
        _voice.bar = bar
    try:
        yield bar.at
    finally:
        _voice.bar = None
        bar.close()


def end_progress() -> None:
    """Take the bar away, where the process is to end at once."""
    if _voice.bar is not None:
        _voice.bar.close()


def debug(line: str) -> None:
    """One line of detail, for `--verbose` only."""
    if _voice.loudness == "verbose":
        _voice.tell("debug", line, None)


def is_on_terminal() -> bool:
    """Whether somebody reads along, so that a line may be written over."""
    return _voice.format == "text" and sys.stderr.isatty()


def line_of(record: logging.LogRecord) -> str:
    """What is said for a record of the log."""
    level = record.levelname.lower()
    return f"{level}: {record.getMessage()}" if level in _LEVELS else record.getMessage()


class _SayingHandler(logging.Handler):
    """Says what the package logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        if record.levelno < logging.INFO:
            debug(record.getMessage())
        else:
            say(line_of(record))


def log_to_stderr(log_format: Format = "text", loudness: Loudness = "usual") -> None:
    """Tell what the package logs, one line each, without the noise of the libraries; from here on in this way."""
    _voice.format, _voice.loudness, _voice.run, _voice.kimg = log_format, loudness, None, None
    logger = logging.getLogger("gan_distributed")
    logger.handlers = [_SayingHandler()]
    logger.setLevel(logging.DEBUG if loudness == "verbose" else logging.INFO)
    logger.propagate = False
    # It logs a traceback before the error that we tell in one line.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    sys.excepthook = _tell_bug if log_format == "json" else sys.__excepthook__


def _tell_bug(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    lines = "".join(traceback.format_exception(kind, error, at))
    _voice.tell("error", f"{kind.__name__}: {error}", None, traceback=lines)
