"""Recipes: YAML files of the sections, overrides by path, how two differ. The only reader of recipe YAML."""

import reprlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gan_distributed.config.configuration import Config, public_values
from gan_distributed.config.mistakes import explain
from gan_distributed.errors import ConfigError

# Values that look like a date or a number and are none, and nesting without end, are not told as YAML's own errors.
_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError)

# The time that YAML takes grows with the square of what is open at once.
_MOST_CHARACTERS, _MOST_BRACKETS = 2**17, 1000


def load_config(path: str | None, overrides: dict[str, Any] | None = None) -> Config:
    """Read a recipe and put overrides, by their dotted path, over it. Raises ConfigError, a line a mistake."""
    text = "" if path is None else _read(path)
    return parse_config(text, path or "configuration", overrides)


def parse_config(text: str, where: str, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration that a run recorded, or that travels with a job."""
    values = _parse_yaml(text, where)
    for key, value in (overrides or {}).items():
        _put(values, key, value)
    return _validated(values, where)


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """`section.field=value` words into values by path; the value is read as YAML."""
    return {key: _value(key, text) for key, text in map(_assigned, assignments)}


def parse_choices(assignments: list[str]) -> dict[str, list[Any]]:
    """`section.field=one,two` words into the values of each path, as YAML has them between [ and ].

    One value alone is read as by `parse_overrides`.
    """
    choices = {}
    for key, text in map(_assigned, assignments):
        try:
            several = yaml.safe_load(f"[{text}]")
        except _NOT_YAML:
            several = None
        is_list = isinstance(several, list) and len(several) > 1
        choices[key] = several if is_list else [_value(key, text)]
    return choices


def _assigned(assignment: str) -> tuple[str, str]:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {assignment}: write it as section.field=value")
    return key.strip(), text


def _value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except _NOT_YAML as error:
        raise ConfigError(f"--set {reprlib.repr(key)}=…: {_said(error)}; give a YAML value") from error


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Fields of the identity that differ: path -> (old value, new value)."""
    before, after = old.identity(), new.identity()
    return {
        path: (before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    }


def to_yaml(config: Config) -> str:
    """The resolved configuration as a recipe, but for storage_options."""
    return yaml.safe_dump(public_values(config), sort_keys=False)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, field = key.split(".")
    for section in sections:
        below = values.setdefault(section, {})
        if not isinstance(below, dict):
            # A schedule's field replaces a plain number.
            below = values[section] = {}
        values = below
    values[field] = value


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice; YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is a word", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give --config a recipe such as jobs/demo.yaml") from error


def _parse_yaml(text: str, where: str) -> dict[str, Any]:
    if len(text) > _MOST_CHARACTERS or text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise ConfigError(f"{where}: longer than a recipe can be; give --config a recipe such as jobs/demo.yaml")
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - derives from SafeLoader
    except _NOT_YAML as error:
        raise ConfigError(f"{where}: not YAML: {_said(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: a recipe is a mapping of sections, found {type(values).__name__}")
    return values


def _said(error: Exception) -> str:
    """What is wrong and where, without the line itself: it may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
    return str(problem) if mark is None else f"{problem} in line {mark.line + 1}, column {mark.column + 1}"


def _validated(values: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(f"{where}: {line}" for line in explain(error)))) from error
