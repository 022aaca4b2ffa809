"""What `project` writes: the image as the generator takes it, its nearest image, the way there, and what they are."""

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan_distributed import __version__
from gan_distributed.data import storage
from gan_distributed.data.preparation.imaging import Crop, to_row
from gan_distributed.data.sources.entries import MAX_IMAGE_BYTES, BadImageError
from gan_distributed.errors import InputError, MissingError
from gan_distributed.models.networks import images_from_rows
from gan_distributed.pictures import interpolation
from gan_distributed.pictures.maker import Maker
from gan_distributed.pictures.projection import Found, Search, find_latent
from gan_distributed.pictures.sheets import encode_table
from gan_distributed.pictures.subjects import class_names, name_of
from gan_distributed.training.samples import Rows, encode_png
from gan_distributed.training.trained import Trained

RECORD_NAME, RECORD_FORMAT = "project.json", 1
NOTE = (
    "Made by a GAN's generator from a latent that was found by optimisation: an approximation of another image, which "
    "a generator need not be able to make. Not a photograph, and no evidence of what the other image shows."
)
_MAKER = "gan-distributed"
_FRAMES_PER_S = 12
_STRIP_SHARES = (0.0, 0.02, 0.08, 0.25, 0.6)
_STRIP_SIDE = 96


@dataclass(frozen=True)
class Target:
    """The image that is looked for. row: uint8 [1, H, W, C], as `prepare` makes it.   sha256: of the file."""

    url: str
    sha256: str
    crop: Crop
    row: Rows


def read_target(url: str, trained: Trained, crop: Crop) -> Target:
    """The image at a URL at the generator's size. Raises InputError where there is none that can be used."""
    num_bytes = storage.size(url)
    if num_bytes is None:
        there = "a folder" if storage.exists(url) else "nothing"
        raise InputError(f"{url}: there is {there} here; give a file of one image")
    if num_bytes > MAX_IMAGE_BYTES:
        raise InputError(f"{url}: {num_bytes} bytes, more than {MAX_IMAGE_BYTES >> 20} MiB; give a smaller image")
    data = storage.read_bytes(url)
    try:
        row = to_row(data, trained.images.resolution, trained.images.channels, crop)
    except BadImageError as error:
        raise InputError(f"{url}: {error}; give an image that other programs open, as PNG, JPEG or WebP") from error
    return Target(storage.absolute(url), hashlib.sha256(data).hexdigest(), crop, row[None])


@dataclass(frozen=True)
class Projection:
    """A search that has ended. maker: of float64, so that its images are those of `generate`."""

    trained: Trained
    target: Target
    search: Search
    found: Found
    maker: Maker

    @cached_property
    def rows(self) -> dict[int, Rows]:
        """The images on the way by step, uint8 [H, W, C]; the last one is the result."""
        latents = {step: kept[0] for step, kept in self.found.way.latents.items()}
        made = self.maker.rows(torch.stack(list(latents.values())), [self.found.label] * len(latents))
        return dict(zip(latents, made, strict=True))

    @property
    def result(self) -> Rows:
        """The nearest image, uint8 [H, W, C]."""
        return self.rows[max(self.rows)]

    @property
    def latent(self) -> NDArray[np.float64]:
        """What makes it, [latent_dim]."""
        return self.found.latent.double().cpu().numpy()

    def record(self) -> dict[str, Any]:
        """What it is, where it comes from, and how near it came."""
        trained, found, names = self.trained, self.found, class_names(self.trained)
        told: dict[str, Any] = {
            "format": RECORD_FORMAT,
            "made_by": f"{_MAKER} {__version__}",
            "what_it_is": NOTE,
            "checkpoint": trained.url,
            "checkpoint_sha256": trained.sha256,
            "weights": trained.weights,
            "seen_images": trained.seen_images,
            "image": self.target.url,
            "image_sha256": self.target.sha256,
            "crop": self.target.crop,
            "seed": self.search.seed,
            "steps": self.search.steps,
            "starts": self.search.starts,
            "rmse": float(np.sqrt(np.square(self.result - self.target.row[0].astype(np.float64)).mean())),
            "latent_norm": float(np.linalg.norm(self.latent)),
        }
        if trained.num_classes:
            told |= {"label": found.label, "class": name_of(names, found.label)}
            told["rmse_by_class"] = {name_of(names, label): error for label, error in found.by_class.items()}
        return told | {"losses": torch.cat(found.way.losses).tolist()}


def project(
    trained: Trained,
    target: Target,
    labels: list[int],
    search: Search,
    device: str | None,
    say: Callable[[str], None],
) -> Projection:
    """Search the latents of some classes. Raises InputError."""
    image = images_from_rows(torch.from_numpy(target.row), torch.float32)
    found = find_latent(Maker(trained, device, fast=True), image, labels, search, say)
    return Projection(trained, target, search, found, Maker(trained, device))


def check_place(out: str, film: str) -> None:
    """Raise InputError where OUT holds something else, or the film cannot be made."""
    if out.endswith((".png", *interpolation.ANIMATIONS)):
        raise InputError(f"{out}: several files are written; name a folder")
    if storage.size(out) is not None:
        raise InputError(f"{out}: a file; name a folder")
    interpolation.check_animation(film)
    url = storage.join(out, RECORD_NAME)
    try:
        record = json.loads(storage.read_bytes(url))
        if record["made_by"].startswith(_MAKER) and "latent_norm" in record:
            return
    except MissingError:
        return
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{url}: not written by project; give another folder")


def write_projection(projection: Projection, out: str, film: str) -> dict[str, Any]:
    """Write the files, the record of them last; returns it. film: its name."""
    # What a record names is never written over while it is there.
    storage.delete(storage.join(out, RECORD_NAME))
    latent = io.BytesIO()
    np.save(latent, projection.latent)
    files = {
        "target.png": encode_png(projection.target.row[0]),
        "projected.png": encode_png(projection.result, NOTE),
        "strip.png": _strip(projection),
        "z.npy": latent.getvalue(),
    }
    for name, data in files.items():
        storage.write(storage.join(out, name), data)
    url = storage.join(out, film)
    # The image itself beside the way to it.
    interpolation.write_animation(
        url, _frames(projection), 2 * projection.trained.images.resolution, _FRAMES_PER_S, NOTE
    )
    files[film] = storage.read_bytes(url)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = projection.record() | {"files": digests}
    storage.write(storage.join(out, RECORD_NAME), json.dumps(record, indent=1).encode())
    return record


def _strip(projection: Projection) -> bytes:
    rows = projection.rows
    last = max(rows)
    wanted = [min(rows, key=lambda step: abs(step - share * last)) for share in _STRIP_SHARES]
    steps = list(dict.fromkeys([*wanted, last]))
    names = ["image", *(f"step {step}" for step in steps[:-1]), "result"]
    cells = np.stack([projection.target.row[0], *(rows[step] for step in steps)])[None]
    scale = -(-_STRIP_SIDE // cells.shape[2])
    return encode_table(cells, [], names, scale, NOTE)


def _frames(projection: Projection) -> Iterator[Rows]:
    still = itertools.repeat(projection.result, _FRAMES_PER_S)
    for row in itertools.chain(projection.rows.values(), still):
        yield np.concatenate([projection.target.row[0], row], axis=1)
