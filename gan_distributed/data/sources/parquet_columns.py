"""Which columns of a Parquet file hold the images and their labels. Knows schemas, reads no rows."""

import json
from collections.abc import Iterable
from typing import Any

from gan_distributed.errors import DataError

# The first of these that is there is taken.
_IMAGES = ("image", "img", "images", "picture", "jpg", "png")
_LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "y")


def image_column(url: str, schema: Any, chosen: str | None) -> str:
    """The dotted path of the images' bytes."""
    leaves: dict[str, str] = {}
    for field in schema:
        if _is_bytes(field.type):
            leaves[field.name] = field.name
        elif (inner := _bytes_field(field.type)) is not None:
            leaves[field.name] = f"{field.name}.{inner}"
    if chosen is not None:
        if chosen not in leaves:
            raise DataError(f"{url}: {chosen!r} holds no images; {_columns(leaves, schema)}")
        return leaves[chosen]
    declared = [name for name, kind in _features(schema).items() if kind.get("_type") == "Image" and name in leaves]
    candidates = declared or [name for name in _IMAGES if name in leaves] or list(leaves)
    if not candidates or (len(candidates) > 1 and not set(candidates) & set(_IMAGES)):
        raise DataError(f"{url}: which column holds the images? Give ?image=NAME; {_columns(leaves, schema)}")
    return leaves[min(candidates, key=lambda name: _IMAGES.index(name) if name in _IMAGES else len(_IMAGES))]


def label_column(url: str, schema: Any, chosen: str | None) -> tuple[str | None, tuple[str, ...] | None]:
    """The column of labels, None where there is none, and the names of its classes, where the metadata has them."""
    features = _features(schema)
    known = [field.name for field in schema if _is_whole(field.type) or is_text(field.type)]
    if chosen == "none":
        return None, None
    if chosen is not None and chosen not in known:
        raise DataError(f"{url}: {chosen!r} holds no labels; {_columns(known, schema)}")
    classes = [name for name in known if features.get(name, {}).get("_type") == "ClassLabel"]
    name = chosen or next((name for name in (*_LABELS, *classes) if name in known), None)
    names = features.get(name or "", {}).get("names") if name in classes else None
    if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
        return name, None
    return name, tuple(names)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of each column, where the file has it."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)} if isinstance(found, dict) else {}


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _bytes_field(kind: Any) -> str | None:
    """The name of the bytes in a struct of bytes and path."""
    from pyarrow import types

    return "bytes" if types.is_struct(kind) and any(f.name == "bytes" and _is_bytes(f.type) for f in kind) else None


def _is_whole(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_boolean(kind))


def is_text(kind: Any) -> bool:
    """Whether a column of this type holds words."""
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(inner) or types.is_large_string(inner))


def _columns(usable: Iterable[str], schema: Any) -> str:
    names = ", ".join(usable)
    return f"there is {names}" if names else f"the columns are {', '.join(schema.names)}"
