"""From entries with the word that labels each to entries with class indices; they wait on the disk, not in memory."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_distributed.data.sources.entries import Entry
from gan_distributed.data.sources.labels import index_classes
from gan_distributed.data.sources.spool import spooling
from gan_distributed.errors import DataError

MAX_CLASSES = 100_000
_UNLABELLED = -1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredEntries:
    """Entries in a file on this disk; can be read many times."""

    path: Path
    # The class index of each word in the file, None where there are no labels.
    classes: Sequence[int] | None

    def __iter__(self) -> Iterator[Entry]:
        with self.path.open("rb") as file:
            for line in file:
                name, word, num_bytes, position, crc = json.loads(line)
                yield Entry(name, None if self.classes is None else self.classes[word], num_bytes, position, crc)


def index_words(
    where: str,
    found: Iterable[tuple[Entry, str | None]],
    path: Path,
    names: tuple[str, ...] | None = None,
    *,
    asked: str | None = None,
    is_guess: bool = False,
) -> tuple[StoredEntries, tuple[str, ...] | None]:
    """The entries with class indices, and the class names, None where nothing is labelled.

    found: each entry with its label, None where it has none.   path: the file to keep them in.
    names: where given, a label is the index of one of these.   asked: what the user gave as
    ?label=.   is_guess: whether the labels may be captions; where more than half of them differ, or more than
    MAX_CLASSES, there are no classes, and a warning says so.
    Raises DataError where only some are labelled, or none though asked for, where an index has no name and where
    nothing was found.
    """
    words: dict[str, int] = {}
    unlabelled, num_images, too_many = None, 0, False
    with spooling(path) as out:
        for entry, word in found:
            number = _UNLABELLED
            if word is None:
                unlabelled = unlabelled or entry.name
            elif len(words) < MAX_CLASSES or word in words:
                number = words.setdefault(word, len(words))
            elif is_guess:
                too_many = True
            else:
                raise DataError(f"{where}: more than {MAX_CLASSES} different labels; choose others with ?label=")
            out.write(json.dumps([entry.name, number, entry.num_bytes, entry.position, entry.crc]).encode() + b"\n")
            num_images += 1
    if not num_images:
        raise DataError(f"{where}: holds no images; check the spelling, or choose them with ?image=")
    if too_many or (is_guess and len(words) * 2 > num_images):
        logger.warning("%s: labels differ from image to image, so there are none; ?label= makes it otherwise", where)
        return StoredEntries(path, None), None
    if not words and asked not in (None, "none"):
        raise DataError(f"{where}: no image has a label in {asked!r}; choose others with ?label=")
    if not words:
        return StoredEntries(path, None), None
    if unlabelled is not None:
        raise DataError(f"{where}: has no label for {unlabelled}; add it, or give ?label=none")
    if names is not None:
        return StoredEntries(path, [_index(where, word, names) for word in words]), names
    indices, class_names = index_classes(list(words))
    return StoredEntries(path, indices), class_names


def _index(where: str, word: str, names: tuple[str, ...]) -> int:
    index = int(word)
    if not 0 <= index < len(names):
        raise DataError(f"{where}: label {word} is none of {len(names)} classes; mend it, or give ?label=none")
    return index
