"""The class of each image, from a file of labels beside the images or from their folders. Reads no images."""

import contextlib
import csv
import io
import json
import logging
import os.path
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from gan_distributed.data.sources.entries import is_image, plain_name
from gan_distributed.data.sources.listing import Listing, full_disk_told, temporary_database
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
    where: str, images: Listing, label_files: Iterable[str], read: Callable[[str], bytes]
) -> tuple[str, ...] | None:
    """Give each image of the source `where` its class; returns the sorted class names, or None where there are none.

    label_files: names of what `is_label_file` found there.
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
    pairs = parse_labels(f"{where}: {chosen}", chosen, read(chosen))
    return None if pairs is None else _from_pairs(f"{where}: {chosen}", pairs, images, _parent(chosen), folder)


def sort_classes(names: Collection[str]) -> list[str]:
    """The class names sorted; as numbers where all are whole numbers."""
    if all(re.fullmatch(r"[+-]?\d{1,18}", name, re.ASCII) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def index_classes(labels: Sequence[str]) -> Labels:
    """The index of each label in the sorted class names; names that are whole numbers sort as numbers."""
    names = sort_classes(set(labels))
    index = {name: position for position, name in enumerate(names)}
    return [index[label] for label in labels], tuple(names)


def parse_labels(where: str, name: str, data: bytes) -> Iterator[tuple[str, str]] | None:
    """(image's name, label) pairs of a file of labels, or None where it says that there are none.

    Raises DataError, on the way, too. A .csv is read line by line; a .json is in memory as a whole.
    """
    if name.endswith(".csv"):
        return _readable(where, _csv_pairs(where, data))
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, error) from error
    return _json_pairs(where, name, content)


def _readable(where: str, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    try:
        yield from pairs
    except (ValueError, csv.Error) as error:
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> DataError:
    return DataError(f"{where}: cannot be read ({error}); mend it or take it away")


def _csv_pairs(where: str, data: bytes) -> Iterator[tuple[str, str]]:
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    for number, row in enumerate(csv.reader(lines), start=1):
        if not any(row):
            continue
        if len(row) != 2 or not row[1].strip():
            raise DataError(f"{where}: line {number} is not `name,label`; mend it")
        if number > 1 or is_image(row[0].strip()):
            yield row[0].strip(), row[1].strip()


def _json_pairs(where: str, name: str, content: object) -> Iterator[tuple[str, str]] | None:
    found: object = content
    if name.endswith("dataset.json"):
        if not isinstance(content, dict) or "labels" not in content:
            raise DataError(f'{where}: is not {{"labels": [[name, class], ...]}}; mend it or take it away')
        found = content["labels"]
        if found is None:
            return None
    if not isinstance(found, dict | list):
        raise DataError(f"{where}: is not {{name: label}}; mend it or take it away")
    return _checked(where, found.items() if isinstance(found, dict) else found)


def _checked(where: str, pairs: Iterable[object]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise DataError(f"{where}: {str(pair)[:80]} is not a name and its label; mend it")
        if isinstance(pair[1], bool) or not isinstance(pair[1], int | str) or pair[1] == "":
            raise DataError(f"{where}: the label of {pair[0]} is {str(pair[1])[:40]!r}; give a word or a whole number")
        yield pair[0], str(pair[1])


def _from_pairs(
    where: str, pairs: Iterable[tuple[str, str]], images: Listing, beside: str, folder: str
) -> tuple[str, ...]:
    with contextlib.closing(_Table(where, pairs)) as table:

        def labels_of(names: list[str]) -> list[str]:
            # Names are relative to the file of labels; tools that write it one level higher leave out the folder.
            return [table.get(_below(name, beside), _below(name, folder)) or _unlabelled(where, name) for name in names]

        return tuple(images.label(labels_of, sort_classes))


def _unlabelled(where: str, image: str) -> str:
    raise DataError(f"{where}: has no label for {image}; add it or take the image away")


def _from_folders(where: str, images: Listing, folder: str) -> tuple[str, ...] | None:
    at_top = sum("/" not in _below(image.name, folder) for image in images)
    if at_top:
        if at_top < len(images):
            logger.warning(
                "%s: %d of %d images lie outside of sub-folders, so there are no labels", where, at_top, len(images)
            )
        return None
    names = images.label(lambda names: [_below(name, folder).partition("/")[0] for name in names], sort_classes)
    if {name.lower() for name in names} <= _SPLITS:
        logger.warning("%s: the classes are %s; did you mean one of these folders?", where, ", ".join(names))
    return tuple(names)


class _Table:
    """The labels of a file by the image's name, on this disk."""

    def __init__(self, where: str, pairs: Iterable[tuple[str, str]]) -> None:
        self._database = temporary_database()
        try:
            with full_disk_told():
                self._database.execute("CREATE TABLE labels (name BLOB PRIMARY KEY, label BLOB) WITHOUT ROWID")
                self._database.execute("BEGIN")
                for image, label in pairs:
                    self._add(where, image, label)
        except BaseException:
            self.close()
            raise

    def get(self, *names: str) -> str | None:
        """The label of the first of the names that has one."""
        for name in names:
            found = self._database.execute("SELECT label FROM labels WHERE name = ?", (_encoded(name),)).fetchone()
            if found is not None:
                return _decoded(found[0])
        return None

    def close(self) -> None:
        self._database.close()

    def _add(self, where: str, image: str, label: str) -> None:
        name, given = _encoded(plain_name(image)), _encoded(label)
        if not self._database.execute("INSERT OR IGNORE INTO labels VALUES (?, ?)", (name, given)).rowcount:
            found = self.get(plain_name(image))
            if found != label:
                raise DataError(f"{where}: {image} has two labels, {found} and {label}; leave one")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _shared_folder(images: Listing) -> str:
    """The folder that all images lie below, an empty string where there is none."""
    # Of sorted names the first and the last share what all share.
    ends = {_parent(images[0].name), _parent(images[-1].name)}
    return os.path.commonpath([f"/{parent}" for parent in ends]).lstrip("/")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _below(name: str, folder: str) -> str:
    return name[len(folder) + 1 :] if folder and name.startswith(f"{folder}/") else name
