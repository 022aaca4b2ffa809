"""Configurations as rows of a table: what differs from the defaults, or between runs."""

from collections.abc import Sequence
from typing import Any

from gan_distributed.config import Config, flattened, public_values

# What `train` wrote beside the configuration is told elsewhere.
_RECORDED = "recorded"
Row = tuple[str, list[str]]


def settings_of(configs: Sequence[Config]) -> list[Row]:
    """Every field's path, and its value in each configuration."""
    found = [_values(config) for config in configs]
    paths = dict.fromkeys(path for values in found for path in values)
    return [(path, [_told(values.get(path)) for values in found]) for path in paths]


def off_default(configs: Sequence[Config]) -> list[Row]:
    """The rows where some configuration differs from the defaults."""
    defaults = dict(settings_of([Config()]))
    return [(path, values) for path, values in settings_of(configs) if [*set(values)] != defaults.get(path)]


def different(configs: Sequence[Config]) -> list[Row]:
    """The rows where the configurations differ from one another."""
    return [(path, values) for path, values in settings_of(configs) if len(set(values)) > 1]


def _values(config: Config) -> dict[str, Any]:
    values = flattened(public_values(config))
    return {path: value for path, value in values.items() if path.split(".")[0] != _RECORDED}


def _told(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_told, value))}]"
    return str(value)
