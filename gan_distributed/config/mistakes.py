"""What is wrong with a recipe, in words of its keys: one line a mistake, with the nearest known key."""

import difflib
import re
import reprlib
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gan_distributed.config.configuration import Config
from gan_distributed.config.section import Section


def explain(error: ValidationError) -> list[str]:
    """A line for each mistake: its path, what is wrong, what was found."""
    mistakes: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    told = error.errors()
    for mistake in told:
        if mistake["type"] == "float_type" and isinstance(mistake["input"], dict) and _is_schedule(mistake, told):
            # A schedule is meant: its own mistakes say more than that it is no number.
            continue
        # Members of a union add their own names to the path; users know only the keys. The last of an unknown one is
        # the user's, whatever it is.
        is_unknown = mistake["type"] == "extra_forbidden"
        parts = [str(part) for part in mistake["loc"]]
        keys = [part for part in parts[: len(parts) - is_unknown] if part.isidentifier() and part not in _UNION_NAMES]
        if is_unknown:
            keys.append(_printable(parts[-1]))
        path = ".".join(keys)
        if is_unknown:
            said = f"unknown key{_suggest(keys)}"
        elif mistake["type"] == "value_error":
            said = str(mistake["ctx"]["error"])
        else:
            said = mistake["msg"].removesuffix(" or instance of Schedule").replace("dictionary", "schedule")
            if not path.startswith("data.storage_options"):
                found[path] = f", found {reprlib.repr(mistake['input'])}{_nearest_choice(mistake)}"
        mistakes.setdefault(path, []).append(said)
    return [
        (f"{path}: " if path else "") + ", or: ".join(said) + found.get(path, "") for path, said in mistakes.items()
    ]


_UNION_NAMES = {"Schedule", "int", "float", "str"}


def _is_schedule(mistake: ErrorDetails, told: list[ErrorDetails]) -> bool:
    """Whether others tell what is wrong with it as a schedule."""
    place = mistake["loc"][:-1]
    return any("Schedule" in other["loc"] and other["loc"][: len(place)] == place for other in told)


def _nearest_choice(mistake: ErrorDetails) -> str:
    """Of a word that is none of the choices."""
    if mistake["type"] != "literal_error" or not isinstance(mistake["input"], str):
        return ""
    choices = re.findall(r"'([^']*)'", mistake["ctx"]["expected"])
    close = difflib.get_close_matches(mistake["input"], choices, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _printable(key: str) -> str:
    return key if key and key.isprintable() else reprlib.repr(key)


def _suggest(keys: list[str]) -> str:
    section: Any = Config
    for key in keys[:-1]:
        field = section.model_fields.get(key)
        section = None if field is None else _section_of(field.annotation)
        if section is None:
            return ""
    close = difflib.get_close_matches(keys[-1], section.model_fields, n=1)
    return (
        f"; did you mean {'.'.join([*keys[:-1], close[0]])}?"
        if close
        else f"; known: {', '.join(section.model_fields)}"
    )


def _section_of(annotation: Any) -> type[Section] | None:
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is None and isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
