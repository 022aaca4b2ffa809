"""How every command ends: one clear line for an error, and its exit code. Holds no verb."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from gan_distributed.errors import GanError

EXIT_INPUT_WRONG = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def run(*functions: Callable[..., Any], name: str | None = None, help_: str | None = None) -> None:
    """Run one verb, or several as sub-commands, on the process's arguments, and leave the process.

    help_: what the name alone tells.
    A GanError is printed as its message alone; anything else is a bug and keeps its traceback.
    """
    import typer

    app = application(*functions, name=name, help_=help_)
    # typer brings its own copy of click in some releases; its errors are found through typer.
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except usage_error as error:
        error.show()
        sys.exit(EXIT_INPUT_WRONG)
    except GanError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def application(*functions: Callable[..., Any], name: str | None = None, help_: str | None = None) -> Any:
    """The verbs as one typer application."""
    import typer

    app = typer.Typer(
        name=name,
        help=help_,
        add_completion=len(functions) > 1,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for function in functions:
        app.command(function.__name__.replace("_", "-"))(function)
    return app


def say(line: str) -> None:
    """One line of progress or log, to stderr; results go to stdout."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def log_to_stderr() -> None:
    """Show the package's own warnings, one line each, without the noise of the libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("gan_distributed")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # It logs a traceback before the error that we tell in one line.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
