"""Documents as YAML text and back: texts of several lines as blocks, a line on top that says how they were made."""

from typing import Any

import yaml

from gan_distributed.errors import InputError


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ARG002
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def to_text(documents: list[dict[str, Any]], heading: str) -> str:
    """One file of all documents."""
    parts = [yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True) for each in documents]
    return f"# {heading}\n" + "---\n".join(parts)


def from_text(text: str, where: str) -> list[dict[str, Any]]:
    """The documents of a file. Raises InputError."""
    try:
        return [each for each in yaml.load_all(text, Loader=yaml.SafeLoader) if each is not None]
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{where}: not YAML: {str(error).splitlines()[0]}") from error
