"""The files of a source that keeps many images in each: found by name, folder or pattern, and chosen by split."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

from gan_distributed.data import storage
from gan_distributed.data.sources import folders
from gan_distributed.data.sources.entries import is_hidden
from gan_distributed.errors import DataError

_MAX_FILES = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
# Between a file and what lies in it; it stands in no plain name.
_INSIDE = "//"
_SPLITS = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test", "eval": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip


class Files(NamedTuple):
    """Some files below one URL."""

    base: str
    # Relative to base.
    names: tuple[str, ...]

    @property
    def url(self) -> str:
        """What to call them in an error."""
        return storage.join(self.base, self.names[0]) if len(self.names) == 1 else self.base

    @property
    def is_local(self) -> bool:
        """Whether they lie on this machine's disk."""
        return storage.local_path(self.base or "/") is not None

    @property
    def threads(self) -> int:
        """How many reads at a time are worth it."""
        return 1 if self.is_local else 16


class Options(NamedTuple):
    """What a source's query chooses: `?image=NAME&label=NAME&split=NAME&prefix=TEXT`."""

    # The array, column or suffix that holds the images.
    image: str | None = None
    # The array, column or suffix that holds the labels; `none` for no labels.
    label: str | None = None
    # Only files of this split.
    split: str | None = None
    # Only keys that begin with this.
    prefix: str | None = None

    def refuse(self, url: str, *names: str) -> None:
        """Raise a DataError where an option is given that is not one of `names`."""
        for name in self._fields:
            if getattr(self, name) is not None and name not in names:
                raise DataError(f"{url}: takes no {name}=; it takes {', '.join(f'{known}=' for known in names)}")


def split_query(source: str) -> tuple[str, Options]:
    """The source without its query, and the query; `images` is `image`, `labels` is `label`.

    What holds other keys is no query of ours but part of the URL.
    """
    head, _, query = source.partition("?")
    pairs = [(_singular(key), value) for key, value in parse_qsl(query, keep_blank_values=True)]
    path = storage.local_path(source)
    if not pairs or not {key for key, _ in pairs} <= set(Options._fields) or (path is not None and path.exists()):
        return source, Options()
    return head, Options(**dict(pairs))


def inside(file: str, key: str) -> str:
    """The name of an entry that lies in a file."""
    return f"{file}{_INSIDE}{key}"


def split_inside(name: str) -> tuple[str, str]:
    """The file and the key in it."""
    file, _, key = name.partition(_INSIDE)
    return file, key


def one_file(url: str) -> Files:
    """The file at `url`."""
    base, _, name = url.rpartition("/")
    return Files(base, (name,))


def is_pattern(url: str) -> bool:
    """Whether the URL stands for several: `shard-{000..099}.tar`, `{a,b}.parquet`, `*/part-*.tar`."""
    return "*" in url or _BRACES.search(url) is not None


def match_files(pattern: str) -> Files:
    """The files that a pattern stands for. `*` is any text without a slash."""
    parts = pattern.split("/")
    fixed = next(index for index, part in enumerate(parts) if is_pattern(part))
    base, rest = "/".join(parts[:fixed]), "/".join(parts[fixed:])
    wanted = list(itertools.islice(_expanded(rest), _MAX_FILES + 1))
    if len(wanted) > _MAX_FILES:
        raise DataError(f"{pattern}: stands for more than {_MAX_FILES} files; check the braces")
    if not any("*" in name for name in wanted):
        return Files(base, tuple(dict.fromkeys(wanted)))
    regex = re.compile("|".join(re.escape(name).replace(r"\*", "[^/]*") for name in wanted))
    # Listing one folder is enough where only names in it vary.
    found = (name for name, _ in folders.walk(base)) if "/" in rest else iter(storage.names(base))
    names = tuple(sorted(name for name in found if regex.fullmatch(name) and not is_hidden(name)))
    if not names:
        raise DataError(f"{pattern}: no file has such a name; check the spelling")
    return Files(base, names)


def choose_split(files: Files, split: str | None) -> Files:
    """The files of one split, by the words in their names; all of them where no name tells a split.

    Raises a DataError where a choice is missing or wrong, or where a part of a numbered set is not there.
    """
    splits = {name: _split_of(name) for name in files.names}
    known = sorted({found for found in splits.values() if found is not None})
    wanted = _SPLITS.get(split.lower(), split) if split is not None else None
    if wanted is None and len(known) > 1:
        raise DataError(f"{files.url}: holds {', '.join(known)}; choose one with ?split=")
    names = files.names
    if wanted is not None:
        names = tuple(name for name in names if splits[name] == wanted)
        if not names:
            there = f"there is {', '.join(known)}" if known else "no name tells a split, so leave it out"
            raise DataError(f"{files.url}: there is no split {split!r}; {there}")
    _check_complete(files.url, names)
    return Files(files.base, names)


def _singular(key: str) -> str:
    return {"images": "image", "labels": "label"}.get(key, key)


def _expanded(pattern: str) -> Iterator[str]:
    """The names that the braces of a pattern stand for."""
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in _choices(found[1]):
        for rest in _expanded(pattern[found.end() :]):
            yield pattern[: found.start()] + choice + rest


def _choices(inner: str) -> Iterator[str]:
    numbers = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", inner, re.ASCII)
    if numbers is None:
        yield from inner.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    # As a shell does it: as many digits as the longer one, where one of them begins with a zero.
    padded = any(len(text) > 1 and text.startswith("0") for text in numbers.groups())
    width = max(map(len, numbers.groups())) if padded else 0
    for number in range(first, last + 1) if first <= last else range(first, last - 1, -1):
        yield f"{number:0{width}d}"


def _split_of(name: str) -> str | None:
    """The split that the file's name tells, else its nearest folder's."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def _check_complete(url: str, names: Sequence[str]) -> None:
    """Raise a DataError where of `train-00000-of-00010.parquet` and its kin not all ten are there."""
    numbered: dict[tuple[str, str], int] = {}
    for name in names:
        found = re.fullmatch(r"(.*?)-?\d+-of-(\d{1,9})(\b.*)", name)
        if found is not None:
            key = (found[1] + found[3], found[2])
            numbered[key] = numbered.get(key, 0) + 1
    for (kind, total), count in numbered.items():
        if count != int(total):
            raise DataError(f"{url}: {count} of {int(total)} files of {kind} are here; fetch the others")
