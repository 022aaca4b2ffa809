"""Which pictures are wanted: seeds, numbers and classes, from the words that a user gives. Makes no image."""

import difflib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import GanError, InputError
from gan_distributed.training.run_folder import read_config
from gan_distributed.training.trained import Trained

# More names than this are not told one by one.
_MOST_TOLD = 20


@dataclass(frozen=True)
class Subject:
    """One picture before it is made: the latent with a number among those of a seed, and a class (0 without any)."""

    seed: int
    number: int
    label: int


@dataclass(frozen=True)
class Selection:
    """Pictures as a user names them: the first `num` of one seed, or the first of each of `seeds`; of a class or all.

    num: None for what is usual in the place.   label: None for the classes in turn.
    """

    seed: int = 0
    num: int | None = None
    seeds: range | None = None
    label: int | None = None

    def count(self, usual: int) -> int:
        """How many they are."""
        return len(self.seeds) if self.seeds is not None else self.num or usual

    def subjects(self, usual: int, num_classes: int) -> Iterator[Subject]:
        """Each of them; a picture is the same however many there are."""
        if self.seeds is not None:
            for seed in self.seeds:
                yield Subject(seed, 0, self._label_at(seed, num_classes))
            return
        for number in range(self.count(usual)):
            yield Subject(self.seed, number, self._label_at(number, num_classes))

    def _label_at(self, index: int, num_classes: int) -> int:
        if self.label is not None:
            return self.label
        return index % num_classes if num_classes else 0


def parse_seeds(words: str) -> range:
    """`7` or `0..99`, both ends included. Raises InputError."""
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", words)
    if found is None:
        raise InputError(f"--seeds {words}: write one seed, or first..last as in 0..99")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise InputError(f"--seeds {words}: the first is above the last; write {last}..{first}")
    return range(first, last + 1)


def parse_label(trained: Trained, words: str | int | None) -> int | None:
    """A class by its number or its name. Raises InputError, which tells the known ones."""
    if words is None:
        return None
    if not trained.num_classes:
        raise InputError(f"--label {words}: the generator is unconditional; leave it out")
    if isinstance(words, int) or words.isdecimal():
        if 0 <= int(words) < trained.num_classes:
            return int(words)
        raise InputError(f"--label {words}: known classes are 0 to {trained.num_classes - 1}{_told(trained)}")
    names = class_names(trained)
    if words in names:
        return names.index(words)
    if not names:
        raise InputError(
            f"--label {words}: the checkpoint holds no names of classes; give a number, 0 to {trained.num_classes - 1}"
        )
    close = difflib.get_close_matches(words, names, n=1)
    raise InputError(f"--label {words}: no such class" + (f"; did you mean {close[0]}?" if close else _told(trained)))


def class_names(trained: Trained) -> tuple[str, ...]:
    """Of a conditional generator, from its checkpoint, or else from the data set where that is still there."""
    if not trained.num_classes or trained.class_names or trained.run is None:
        return trained.class_names if trained.num_classes else ()
    with suppress(GanError):
        config = read_config(trained.run)
        if config is not None and config.data.url is not None and config.recorded is not None:
            return load_manifest(config.data.url, config.recorded.dataset).class_names or ()
    return ()


def name_of(names: tuple[str, ...], label: int) -> str:
    """A class's name, or its number where it has none."""
    return names[label] if label < len(names) else str(label)


def _told(trained: Trained) -> str:
    names = class_names(trained)
    if not names:
        return ""
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return f"; {', '.join(names[:_MOST_TOLD])}{more}"
