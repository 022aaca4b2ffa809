"""What `generate` makes of a trained generator: single files, a grid, a strip, a film, a sheet of truncations.

Each tells what it wrote, an entry a file, for a manifest.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gan_distributed.data import storage
from gan_distributed.errors import InputError
from gan_distributed.pictures import interpolation
from gan_distributed.pictures.maker import Maker
from gan_distributed.pictures.sheets import encode_table
from gan_distributed.pictures.subjects import Selection, Subject, class_names, name_of
from gan_distributed.pictures.writing import told_subject, write_pictures
from gan_distributed.training.samples import Rows, encode_grid, grid_labels
from gan_distributed.training.trained import Trained

USUAL_NUM, USUAL_KEYS, USUAL_ROWS = 64, 4, 8
_FRAMES_PER_S = 24
# What programs that show pictures still open.
_MOST_PIXELS = 2**27
File = dict[str, Any]


class Studio:
    """A trained generator and which pictures of it are wanted.

    truncation: the largest |z|, None for no limit.   say: takes lines of progress.
    """

    def __init__(
        self,
        trained: Trained,
        selection: Selection,
        truncation: float | None,
        say: Callable[[str], None],
        maker: Maker,
    ) -> None:
        self._trained, self._selection, self._say = trained, selection, say
        self._maker, self._truncation = maker, truncation
        self._names, self._num_classes = class_names(trained), trained.num_classes

    def files(self, folder: str) -> Iterator[File]:
        """A PNG file each, named by number, or by seed where there are several; told as they are there."""
        subjects = self._selection.subjects(USUAL_NUM, self._num_classes)
        num = self._selection.count(USUAL_NUM)
        by_seed = self._selection.seeds is not None

        def url_of(subject: Subject) -> str:
            name = f"seed{subject.seed:06d}.png" if by_seed else f"{subject.number:06d}.png"
            return storage.join(folder, name)

        written = write_pictures(self._maker.make(subjects, self._truncation), url_of, num, self._say)
        for subject, url, sha256 in written:
            yield {"file": _name(url), **self._told(subject), "sha256": sha256}

    def grid(self, url: str) -> list[File]:
        """One picture; a class a column where labels are not given."""
        num = self._selection.count(USUAL_NUM)
        self._check_fits("--grid", num)
        subjects = list(self._selection.subjects(USUAL_NUM, self._num_classes))
        if self._selection.label is None and self._selection.seeds is None:
            labels = grid_labels(num, self._num_classes).tolist()
            subjects = [replace(subject, label=label) for subject, label in zip(subjects, labels, strict=True)]
        rows = np.stack([row for _, row in self._maker.make(subjects, self._truncation)])
        return [self._written(url, encode_grid(rows, self._num_classes), subjects)]

    def strip(self, url: str, steps: int) -> list[File]:
        """One picture: a row from each image to the next."""
        keys = self._keys(2)
        self._check_fits("--interpolate", (len(keys) - 1) * (steps + 1))
        latents = interpolation.strips(self._maker.latents(keys, self._truncation), steps)
        rows = self._maker.rows(latents.flatten(0, 1), [keys[0].label] * (latents.shape[0] * latents.shape[1]))
        return [self._written(url, encode_table(rows.reshape(*latents.shape[:2], *rows.shape[1:]), [], []), keys)]

    def film(self, url: str, steps: int) -> list[File]:
        """A .gif or .mp4 that goes through all images and back to the first."""
        interpolation.check_animation(url)
        keys = self._keys(2)
        latents = interpolation.circle(self._maker.latents(keys, self._truncation), steps)

        def frames() -> Iterable[Rows]:
            for part in torch.split(latents, self._maker.batch_size):
                yield from self._maker.rows(part, [keys[0].label] * len(part))

        interpolation.write_animation(url, frames(), self._trained.images.resolution, _FRAMES_PER_S)
        sha256 = hashlib.sha256(storage.read_bytes(url)).hexdigest()
        return [{"file": _name(url), "pictures": [self._told(key) for key in keys], "sha256": sha256}]

    def sheet(self, url: str, truncations: list[float | None]) -> list[File]:
        """One picture: a column a truncation; a row a class, from the same latent, or a row a seed or number."""
        chosen = self._selection
        if self._num_classes and chosen.label is None and chosen.seeds is None and chosen.num is None:
            subjects = [Subject(chosen.seed, 0, label) for label in range(self._num_classes)]
            names = [name_of(self._names, subject.label) for subject in subjects]
        else:
            subjects = list(chosen.subjects(USUAL_ROWS, self._num_classes))
            names = [f"{subject.seed}" if chosen.seeds else f"{subject.number}" for subject in subjects]
        self._check_fits("--sheet", len(subjects) * len(truncations))
        labels = [subject.label for subject in subjects]
        columns = [self._maker.rows(self._maker.latents(subjects, limit), labels) for limit in truncations]
        told = ["no limit" if limit is None else f"{limit:g}" for limit in truncations]
        entry = self._written(url, encode_table(np.stack(columns, axis=1), names, told), subjects)
        return [{**entry, "truncations": truncations}]

    def _keys(self, least: int) -> list[Subject]:
        """Images to go between: all of one class, since there is nothing between two."""
        chosen = replace(self._selection, label=self._selection.label or 0)
        keys = list(chosen.subjects(USUAL_KEYS, self._num_classes))
        if len(keys) < least:
            raise InputError(f"--interpolate: {len(keys)} image has nothing to go to; give --num {least} or more")
        return keys

    def _check_fits(self, option: str, num: int) -> None:
        most = _MOST_PIXELS // self._trained.images.resolution**2
        if num > most:
            raise InputError(f"{option}: {num} images are more than one picture holds; at most {most}")

    def _written(self, url: str, data: bytes, subjects: list[Subject]) -> File:
        storage.write(url, data)
        pictures = [self._told(subject) for subject in subjects]
        return {"file": _name(url), "pictures": pictures, "sha256": hashlib.sha256(data).hexdigest()}

    def _told(self, subject: Subject) -> dict[str, Any]:
        return told_subject(subject, self._names, self._num_classes)


def parse_truncation(limit: float | None, option: str = "--truncation") -> float | None:
    """The largest |z|. Raises InputError."""
    if limit is not None and not 0 < limit < float("inf"):
        raise InputError(f"{option} {limit}: give a number above 0, such as 1, or leave it out")
    return limit


def parse_truncations(words: str) -> list[float | None]:
    """Numbers, and `none`, apart by commas. Raises InputError."""
    try:
        limits = [None if word.strip() == "none" else float(word) for word in words.split(",")]
    except ValueError as error:
        raise InputError(f"--truncations {words}: give numbers and none, as 0.5,1,none") from error
    return [parse_truncation(limit, "--truncations") for limit in limits]


def _name(url: str) -> str:
    return url.rsplit("/", 1)[-1]
