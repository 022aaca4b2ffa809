"""The class of each image, from a file of labels beside the images or from their folders. Reads no images."""

import csv
import io
import json
import logging
import os.path
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from gan_distributed.data.entries import is_image, plain_name
from gan_distributed.errors import DataError

# The first that is there is taken.
LABEL_FILES = ("labels.csv", "labels.json", "dataset.json")
MAX_LABEL_FILE_BYTES = 256 * 2**20
_SPLITS = {"train", "test", "val", "valid", "validation"}

Labels = tuple[list[int], tuple[str, ...]]
logger = logging.getLogger(__name__)


def is_label_file(name: str) -> bool:
    """Whether a name is that of a file of labels."""
    return name.rsplit("/", 1)[-1] in LABEL_FILES


def label_images(
    where: str, images: Sequence[str], label_files: Iterable[str], read: Callable[[str], bytes]
) -> Labels | None:
    """The class index of each image and the sorted class names, or None where there are no labels.

    images: names below the source `where`.   label_files: names of what `is_label_file` found there.
    """
    folder = _shared_folder(images)
    found = sorted(label_files)
    beside = [name for name in found if f"/{folder}/".startswith(f"/{_parent(name)}/".replace("//", "/"))]
    if found and not beside:
        logger.warning("%s: %s does not lie above all images and is not used", where, found[0])
    if not beside:
        return _from_folders(where, images, folder)
    # The nearest to the images; of two in one folder, in the order of LABEL_FILES.
    chosen = min(beside, key=lambda name: (-name.count("/"), LABEL_FILES.index(name.rsplit("/", 1)[-1])))
    table = parse_labels(f"{where}: {chosen}", chosen, read(chosen))
    return None if table is None else _from_table(f"{where}: {chosen}", table, images, _parent(chosen), folder)


def index_classes(labels: Sequence[str]) -> Labels:
    """The index of each label in the sorted class names; names that are whole numbers sort as numbers."""
    found = set(labels)
    if all(re.fullmatch(r"[+-]?\d{1,18}", name, re.ASCII) for name in found):
        names = sorted(found, key=lambda name: (int(name), name))
    else:
        names = sorted(found)
    index = {name: position for position, name in enumerate(names)}
    return [index[label] for label in labels], tuple(names)


def parse_labels(where: str, name: str, data: bytes) -> dict[str, str] | None:
    """{image's name: label} of a file of labels, or None where it says that there are none."""
    try:
        text = data.decode("utf-8-sig")
        pairs = _csv_pairs(where, text) if name.endswith(".csv") else _json_pairs(where, name, json.loads(text))
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{where}: cannot be read ({error}); mend it or take it away") from error
    if pairs is None:
        return None
    table: dict[str, str] = {}
    for image, label in pairs:
        key = plain_name(image)
        if table.setdefault(key, label) != label:
            raise DataError(f"{where}: {image} has two labels, {table[key]} and {label}; leave one")
    return table


def _csv_pairs(where: str, text: str) -> list[tuple[str, str]]:
    pairs = []
    for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
        if not any(row):
            continue
        if len(row) != 2 or not row[1].strip():
            raise DataError(f"{where}: line {number} is not `name,label`; mend it")
        if number > 1 or is_image(row[0].strip()):
            pairs.append((row[0].strip(), row[1].strip()))
    return pairs


def _json_pairs(where: str, name: str, content: object) -> list[tuple[str, str]] | None:
    found: object = content
    if name.endswith("dataset.json"):
        if not isinstance(content, dict) or "labels" not in content:
            raise DataError(f'{where}: is not {{"labels": [[name, class], ...]}}; mend it or take it away')
        found = content["labels"]
        if found is None:
            return None
    pairs = list(found.items()) if isinstance(found, dict) else found
    if not isinstance(pairs, list):
        raise DataError(f"{where}: is not {{name: label}}; mend it or take it away")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise DataError(f"{where}: {str(pair)[:80]} is not a name and its label; mend it")
        if isinstance(pair[1], bool) or not isinstance(pair[1], int | str) or pair[1] == "":
            raise DataError(f"{where}: the label of {pair[0]} is {str(pair[1])[:40]!r}; give a word or a whole number")
    return [(image, str(label)) for image, label in pairs]


def _from_table(where: str, table: Mapping[str, str], images: Sequence[str], beside: str, folder: str) -> Labels:
    labels = []
    for image in images:
        # Names are relative to the file of labels; tools that write it one level higher leave out the folder.
        label = table.get(_below(image, beside), table.get(_below(image, folder)))
        if label is None:
            raise DataError(f"{where}: has no label for {image}; add it or take the image away")
        labels.append(label)
    return index_classes(labels)


def _from_folders(where: str, images: Sequence[str], folder: str) -> Labels | None:
    below = [_below(image, folder).split("/") for image in images]
    at_top = sum(len(parts) == 1 for parts in below)
    if at_top:
        if at_top < len(images):
            logger.warning(
                "%s: %d of %d images lie outside of sub-folders, so there are no labels", where, at_top, len(images)
            )
        return None
    labels, names = index_classes([parts[0] for parts in below])
    if {name.lower() for name in names} <= _SPLITS:
        logger.warning("%s: the classes are %s; did you mean one of these folders?", where, ", ".join(names))
    return labels, names


def _shared_folder(images: Sequence[str]) -> str:
    """The folder that all images lie below, an empty string where there is none."""
    parents = {_parent(image) for image in images}
    return "" if "" in parents else os.path.commonpath([f"/{parent}" for parent in parents]).lstrip("/")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _below(name: str, folder: str) -> str:
    return name[len(folder) + 1 :] if folder and name.startswith(f"{folder}/") else name
