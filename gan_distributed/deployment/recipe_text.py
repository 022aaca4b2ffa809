"""The recipe that travels with a job: the file's own text, with all its comments."""

from pathlib import Path
from typing import Any

from gan_distributed.config import Config, load_config, parse_overrides
from gan_distributed.errors import ConfigError


def read_recipe(path: str, overrides: list[str], options: dict[str, Any]) -> tuple[str, Config]:
    """The text of a recipe, and the configuration that it becomes under `--set` words and options. Raises ConfigError.

    options: values by path; None where an option was not given.
    """
    given = {key: value for key, value in options.items() if value is not None}
    config = load_config(path, parse_overrides(overrides) | given)
    if config.data.storage_options:
        raise ConfigError(
            f"{path}: data.storage_options may hold secrets, and a ConfigMap keeps none; put them into the pods' "
            "environment, as FSSPEC_S3_ENDPOINT_URL and the like"
        )
    return Path(path).read_text(encoding="utf-8"), config
