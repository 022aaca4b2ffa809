"""Images of any data set that torchvision knows, by its class's name: `torchvision:CIFAR100?root=DIR&split=train`."""

import inspect
import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import parse_qsl

from gan_distributed.data.sources.entries import BadImageError, Entry
from gan_distributed.data.sources.labels import Labels, index_classes
from gan_distributed.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Value = str | int | float | bool
logger = logging.getLogger(__name__)
# Where torchvision's classes keep the labels, so that no image need be decoded to learn them.
_LABEL_ATTRIBUTES = ("targets", "_labels", "labels", "y")


@dataclass(frozen=True)
class TorchvisionReader:
    """Reads items of one torchvision data set that is on this machine."""

    name: str
    arguments: tuple[tuple[str, Value], ...]
    threads: int = 1

    def read(self, entry: Entry) -> "Image.Image":
        """The image of the item at the entry's position."""
        from PIL import Image

        try:
            image = _open(self)[entry.position][0]
        # Each class has its own way to fail at a broken file.
        except Exception as error:
            raise BadImageError(f"cannot be read: {type(error).__name__}") from error
        if not isinstance(image, Image.Image):
            raise BadImageError(f"a {type(image).__name__}, not an image")
        return image


def list_torchvision(source: str) -> tuple[Iterable[Entry], tuple[str, ...] | None, TorchvisionReader]:
    """The items of `torchvision:CLASS?key=value&…`, their class names where they have classes, and their reader."""
    name, _, query = source.removeprefix("torchvision:").partition("?")
    arguments = _arguments(source, name, query)
    _open.cache_clear()
    # Fetched once, here: what workers open later is on the disk.
    dataset = _construct(source, name, arguments)
    reader = TorchvisionReader(name, tuple(sorted((key, arguments[key]) for key in arguments if key != "download")))
    labels = _labels(source, dataset)
    entries = (
        Entry(f"{name}/{index:08d}", labels[0][index] if labels else None, 0, index) for index in range(len(dataset))
    )
    return entries, labels[1] if labels else None, reader


def _class(source: str, name: str) -> Any:
    from torchvision import datasets

    known = [item for item in datasets.__all__ if "transform" in inspect.signature(getattr(datasets, item)).parameters]
    if name not in known:
        raise DataError(f"{source}: torchvision has no data set {name!r}; it has {', '.join(sorted(known))}")
    return getattr(datasets, name)


def _arguments(source: str, name: str, query: str) -> dict[str, Value]:
    """The class's arguments from the query, with the types that they look like."""
    parameters = inspect.signature(_class(source, name)).parameters
    found = {key: _typed(value) for key, value in parse_qsl(query, keep_blank_values=True)}
    if "split" in found and "split" not in parameters and "train" in parameters:
        split = found.pop("split")
        if split not in ("train", "test"):
            raise DataError(f"{source}: split is {split!r}; {name} has train and test")
        found["train"] = split == "train"
    takes = [key for key in parameters if not key.endswith(("transform", "transforms", "loader"))]
    unknown = sorted(set(found) - set(takes))
    if unknown:
        raise DataError(f"{source}: {name} takes no {unknown[0]}; it takes {', '.join(takes)}")
    missing = [key for key in takes if parameters[key].default is inspect.Parameter.empty and key not in found]
    if missing:
        raise DataError(f"{source}: {name} needs {missing[0]}; write torchvision:{name}?{missing[0]}=…")
    return found


def _typed(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@lru_cache(maxsize=2)
def _open(reader: TorchvisionReader) -> Any:
    return _construct(f"torchvision:{reader.name}", reader.name, dict(reader.arguments))


def _construct(source: str, name: str, arguments: dict[str, Value]) -> Any:
    # A folder may be called 2024.
    arguments = {key: str(value) if key == "root" else value for key, value in arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _class(source, name)(**arguments)
        except (URLError, ConnectionError, TimeoutError) as error:
            raise DataError(f"{source}: cannot be downloaded ({error}); fetch it where there is a network") from error
        # Each class has its own way to say that its files are not there.
        except Exception as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            mend = "" if arguments.get("download") else "; add download=true to fetch it, or mend root="
            raise DataError(f"{source}: {said}{mend}") from error


def _labels(source: str, dataset: Any) -> Labels | None:
    found = next((getattr(dataset, name) for name in _LABEL_ATTRIBUTES if hasattr(dataset, name)), None)
    if found is None or not hasattr(found, "__len__") or len(found) != len(dataset):
        found = _labels_of_items(dataset)
    values = [_whole(value) for value in found] if found is not None else [None]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values) or min(numbers, default=-1) < 0:
        logger.warning("%s: its targets are not classes, so there are no labels", source)
        return None
    names: Sequence[str] | None = getattr(dataset, "classes", None)
    if names is None or len(names) <= max(numbers) or not all(isinstance(name, str) for name in names):
        return index_classes([str(number) for number in numbers])
    return numbers, tuple(names)


def _labels_of_items(dataset: Any) -> list[Any] | None:
    """The target of each item, None where the first is not a class: reading an item decodes its image."""
    if not len(dataset) or _whole(_target(dataset[0])) is None:
        return None
    return [_target(dataset[index]) for index in range(len(dataset))]


def _target(item: Any) -> Any:
    return item[1] if isinstance(item, tuple) and len(item) > 1 else None


def _whole(value: Any) -> int | None:
    """The value as a whole number, also from a tensor or array of one element, else None."""
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None
