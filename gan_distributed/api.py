"""The package from Python: prepare, train, evaluate, and a generator to call. Above the verbs, which do the work.

from gan_distributed import api

data = api.prepare("./photos", "data", resolution=64)
run = api.train("jobs/generic64.yaml", data=data, output="runs", run_id="photos")
images = api.load_generator(run)(num=16, seed=0)
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gan_distributed import command
from gan_distributed.data import storage
from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from gan_distributed.pictures.images import Images
    from gan_distributed.training.trained import Trained


class Generator:
    """A trained generator: call it for images."""

    def __init__(self, trained: "Trained", device: str | None = None, *, fast: bool = False) -> None:
        from gan_distributed.pictures.maker import Maker
        from gan_distributed.pictures.subjects import class_names

        self._trained, self._maker = trained, Maker(trained, device, fast=fast)
        self.class_names = class_names(trained)

    @property
    def resolution(self) -> int:
        """Side of its images in pixels."""
        return self._trained.images.resolution

    @property
    def num_classes(self) -> int:
        """Classes that it can be asked for, 0 where it is unconditional."""
        return self._trained.num_classes

    @property
    def seen_images(self) -> int:
        """Real images that it was trained on."""
        return self._trained.seen_images

    def __call__(
        self, num: int = 16, seed: int = 0, label: int | str | None = None, truncation: float | None = None
    ) -> "Images":
        """Images, uint8 [num, H, W, C]: those that `generate --num NUM --seed SEED` writes.

        label: a class's number or name, None for the classes in turn.   truncation: the largest |z|.
        Raises InputError.
        """
        from gan_distributed.pictures.images import stacked
        from gan_distributed.pictures.studio import parse_truncation
        from gan_distributed.pictures.subjects import Selection, parse_label

        selection = Selection(seed, num, label=parse_label(self._trained, label))
        made = self._maker.make(selection.subjects(num, self.num_classes), parse_truncation(truncation))
        return stacked([row for _, row in made], self._trained.images, self.num_classes)

    def at(self, latents: Any, label: int | str | None = None) -> "Images":
        """Images of latents, numbers [num, latent_dim], all of one class, 0 where none is given; uint8 [num, H, W, C].

        What `project` found makes `projected.png`: at(numpy.load("z.npy")[None], label). Raises InputError.
        """
        import torch

        from gan_distributed.pictures.images import stacked
        from gan_distributed.pictures.subjects import parse_label

        numbers = torch.as_tensor(latents, dtype=torch.float64)
        if numbers.ndim != 2 or numbers.shape[1] != self._maker.latent_dim:
            raise InputError(f"latents of shape {list(numbers.shape)}: give [num, {self._maker.latent_dim}]")
        labels = [parse_label(self._trained, label) or 0] * len(numbers)
        rows = list(self._maker.rows(numbers, labels)) if len(numbers) else []
        return stacked(rows, self._trained.images, self.num_classes)

    def __repr__(self) -> str:
        """What it makes, in a line."""
        images = self._trained.images
        classes = f", {self.num_classes} classes" if self.num_classes else ""
        return (
            f"<generator {self._trained.config.model.family}, {images.resolution} x {images.resolution} x "
            f"{images.channels}{classes}, {self.seen_images / 1000:g} kimg, {self._maker.device}>"
        )


def load_generator(source: str, device: str | None = None, *, raw: bool = False, fast: bool = False) -> Generator:
    """The generator of a run, of a checkpoint, or of a generator.safetensors, at any URL. Raises GanError.

    device: cpu or cuda, None for the GPU where there is one.   raw: the weights that are not averaged.
    fast: in float32, sooner; a pixel may be off by one of its 256 levels.
    """
    from gan_distributed.training.trained import load_trained

    return Generator(load_trained(source, raw=raw), device, fast=fast)


def prepare(source: str, dest: str, resolution: int, **options: Any) -> str:
    """Turn raw images into a prepared data set; returns DEST. options: those of the command. Raises GanError."""
    from gan_distributed import prepare as verb

    with _as_guest():
        verb.prepare(source, dest, resolution, **options)
    return dest


def train(
    config: str | dict[str, Any],
    *,
    data: str | None = None,
    output: str | None = None,
    run_id: str | None = None,
    workers: int | str | None = None,
    settings: dict[str, Any] | None = None,
    fresh: bool = False,
) -> str:
    """Train, or go on with the run of that name; returns the run's URL. Raises GanError.

    config: a recipe's path, or its sections as a dictionary.   settings: values by dotted key, over the recipe, as
    --set has them.   The first interrupt saves a last checkpoint, and is raised once that is done.
    """
    from gan_distributed import train as verb
    from gan_distributed.config import load_config

    shortcuts = {"data.url": data, "output": output, "run_id": run_id, "cluster.workers": workers}
    given = {key: value for key, value in shortcuts.items() if value is not None}
    path, sections = (config, {}) if isinstance(config, str) else (None, config)
    resolved = load_config(path, sections | (settings or {}) | given)
    with _as_guest():
        code, _ = verb.start_or_resume(resolved, frozenset(settings or {}), fresh)
    if code == command.EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)
    # Both are there, or training would have refused.
    return storage.join(storage.absolute(str(resolved.output)), str(resolved.run_id))


def evaluate(source: str, data: str, *, raw: bool = False, **options: Any) -> list[dict[str, Any]]:
    """Score a run or checkpoint against a prepared data set; returns a record a metric, each with its protocol.

    options: fields of the recipe's section `score`, as metrics=["fid"], num_images=10_000. Raises GanError.
    """
    from gan_distributed.evaluate import take_scores

    with _as_guest():
        return take_scores(source, data, options, [], raw=raw)[1]


def project(source: str, image: str, out: str, **options: Any) -> dict[str, Any]:
    """Find the latent whose image is nearest to an image; returns what OUT/project.json says.

    options: those of the command. Raises GanError.
    """
    from gan_distributed.project import search_latent

    with _as_guest():
        return search_latent(source, image, out, **options)


@contextlib.contextmanager
def _as_guest() -> Iterator[None]:
    """A command owns its process: afterwards give back what it takes of signals and of the log."""
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    logger = logging.getLogger("gan_distributed")
    before = logger.handlers, logger.level, logger.propagate
    command.log_to_stderr()
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
        for number, handler in handlers.items():
            signal.signal(number, handler)
