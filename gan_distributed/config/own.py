"""Objects of a user's own that a recipe names as `module:object`: how such a name looks, and what it stands for."""

import difflib
import importlib
import os
import re
import sys
from typing import Any, TypeVar

from gan_distributed.errors import ConfigError

T = TypeVar("T")
PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"


def is_own(name: str) -> bool:
    """Whether a name is `module:object`."""
    return re.match(PATTERN, name) is not None


def check_choice(value: Any, known: tuple[str, ...], kind: str) -> str:
    """A known name or one of a user's own. Raises ValueError, with the nearest known one."""
    if isinstance(value, str) and (value in known or is_own(value)):
        return value
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {close[0]}? Known: " if close else "known: "
    raise ValueError(f"{value!r} is no {kind}; {hint}{', '.join(known)}, or your own as module:object")


def load_own(name: str, option: str, wanted: type[T]) -> T:
    """The object of a name. The module is looked for as Python does, and last in the working directory.

    Raises ConfigError, in one line, where it is not there, fails, or is something else.
    """
    module_name, _, path = name.partition(":")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"{option} {name}: {_why(module_name, error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{option} {name}: {module_name} has no {part}{hint}")
        found = getattr(found, part)
    if not isinstance(found, wanted):
        raise ConfigError(
            f"{option} {name}: a {type(found).__name__}, where {wanted.__module__}.{wanted.__name__} is wanted; see "
            "docs/extending.md"
        )
    return found


def folder_of(name: str) -> str | None:
    """The folder that Python took a name's module from, for processes that start elsewhere; None for a built-in."""
    top = sys.modules.get(name.partition(":")[0].partition(".")[0])
    places = list(getattr(top, "__path__", [])) or [getattr(top, "__file__", None)]
    return os.path.dirname(os.path.abspath(places[0])) if places[0] else None


def _why(module_name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and module_name.startswith(error.name or "\0"):
        return f"there is no module {error.name}; start where it lies, or put its folder into PYTHONPATH"
    said = " ".join(str(error).split())
    return f"importing {module_name} failed: {type(error).__name__}: {said}"
