"""All that a resume needs: networks, optimizers, average, clock and counters, on one rank."""

import copy
import io
import json
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gan_distributed.config import Config, public_values
from gan_distributed.errors import CheckpointError, ResumeError
from gan_distributed.models.networks import (
    ImageSpec,
    build_discriminator,
    build_generator,
    empty_discriminator,
    empty_generator,
)
from gan_distributed.training.optimizer import build_optimizer
from gan_distributed.training.precision import dtype_of
from gan_distributed.training.snapshot import Snapshot
from gan_distributed.training.world import World

STATE_FORMAT = 1
_NETWORKS = ("generator", "discriminator", "ema")


class NonfiniteError(Exception):
    """Too many steps in a row were skipped, or the state is spoiled; the run goes back to its last checkpoint."""


class TrainState:
    """What a step reads and moves.

    seen_images: the clock, on the host.   saved_seen_images: that of the checkpoint it came from, -1 without one.
    order_digest: int64 [], this rank's addend of the order's digest.
    skipped: int64 [2], steps skipped so far, and the row of them that goes on now.
    augment_p: float64 [], the controlled probability of augmentation, 0 where it is not controlled.
    best_score: metric, value, seen_images and protocol of the best score so far, None without scores.
    rollbacks: how often the run went back; stored outside checkpoints, since it must outlive them.
    draws_weights: false where all of them are loaded next; biggan's at 128 px take 40 s of CPU time to draw.
    """

    def __init__(
        self, config: Config, images: ImageSpec, world: World, rollbacks: int = 0, *, draws_weights: bool = True
    ) -> None:
        layout = torch.channels_last if config.training.channels_last else torch.contiguous_format
        self.dtype = dtype_of(config)

        def placed(network: torch.nn.Module) -> torch.nn.Module:
            return network.to(device=world.device, dtype=self.dtype, memory_format=layout)  # type: ignore[call-overload,no-any-return]

        self.images = images
        if draws_weights:
            generator = build_generator(config.model, images, config.seed)
            discriminator = build_discriminator(config.model, images, config.seed)
        else:
            generator, discriminator = empty_generator(config.model, images), empty_discriminator(config.model, images)
        self.generator, self.discriminator = placed(generator), placed(discriminator)
        self.ema = copy.deepcopy(self.generator).requires_grad_(requires_grad=False)
        self.generator_optimizer = build_optimizer(self.generator, config.optimizer.generator)
        self.discriminator_optimizer = build_optimizer(self.discriminator, config.optimizer.discriminator)
        self.seen_images = 0
        self.saved_seen_images = -1
        self.order_digest = torch.zeros((), dtype=torch.int64, device=world.device)
        self.skipped = torch.zeros(2, dtype=torch.int64, device=world.device)
        self.augment_p = torch.zeros((), dtype=torch.float64, device=world.device)
        self.best_score: dict[str, Any] | None = None
        self.rollbacks = rollbacks
        self._world = world

    def global_digest(self) -> int:
        """The order's digest over all ranks, as a signed 64-bit number; every rank calls it. Device sync."""
        return int(self._world.sum_integers(self.order_digest))

    def is_finite(self) -> bool:
        """Whether every weight, moment, average and statistic of every rank is; every rank calls it. Device sync."""
        tensors = [tensor for part in self._parts().values() for tensor in _tensors_in(part.state_dict())]
        # A norm may overflow where no element did.
        num_bad = sum((~torch.isfinite(tensor)).sum() for tensor in tensors)
        return int(self._world.sum_integers(self.order_digest.new_zeros(()) + num_bad)) == 0

    def snapshot(self, global_digest: int) -> Snapshot:
        """A copy of everything; rank 0 calls it. What it waits for, the copy tells."""
        values = {
            "format": STATE_FORMAT,
            "seen_images": self.seen_images,
            "order_digest": global_digest,
            "skipped": self.skipped,
            "augment_p": self.augment_p,
            "best_score": self.best_score,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }
        return Snapshot(values, self._world.device)

    def load(self, data: bytes) -> None:
        """Take over a saved state; every rank calls it with the same bytes. Raises CheckpointError, ResumeError."""
        saved = self._read(data, tuple(self._parts()))
        self.seen_images = self.saved_seen_images = int(saved["seen_images"])
        self.order_digest.fill_(saved["order_digest"] if self._world.rank == 0 else 0)
        self.skipped.copy_(torch.tensor(saved["skipped"]))
        # States of before there was augmentation have none.
        self.augment_p.fill_(saved.get("augment_p", 0.0))
        # Absent where an older version saved it.
        self.best_score = saved.get("best_score")

    def adopt(self, data: bytes) -> None:
        """Take over the networks and the average of another run's state, and nothing else: optimizers, clock and the
        probability of augmentation start anew. Raises CheckpointError, ResumeError.
        """
        self._read(data, _NETWORKS)

    def _read(self, data: bytes, names: tuple[str, ...]) -> dict[str, Any]:
        saved = _decoded(data, self._world.device)
        parts = self._parts()
        try:
            for name in names:
                parts[name].load_state_dict(saved[name])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ResumeError(
                f"the saved {name} does not fit the configured one: {_first_line(error)}; model.family and the other "
                "fields of model must be those that it was trained with"
            ) from error
        return saved

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema": self.ema,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }


def encode_state(snapshot: Snapshot) -> bytes:
    """The bytes of state.pt, which load with weights_only=True."""
    values = snapshot.on_host()
    counts = {"skipped": values["skipped"].tolist(), "augment_p": float(values["augment_p"])}
    file = io.BytesIO()
    torch.save(values | counts, file)
    return file.getvalue()


def encode_generator(weights: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of generator.safetensors: weights by name, and what is needed to build the network."""
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    encoded: bytes = safetensors.torch.save(contiguous, metadata)
    return encoded


def generator_metadata(
    config: Config, images: ImageSpec, class_names: tuple[str, ...], seen_images: int
) -> dict[str, str]:
    """What generator.safetensors says of itself: all that is needed to build and to use it."""
    return {
        "config": json.dumps(public_values(config)),
        "resolution": str(images.resolution),
        "channels": str(images.channels),
        "num_classes": str(images.num_classes),
        "class_names": json.dumps(class_names),
        "seen_images": str(seen_images),
    }


def raw_generator(data: bytes) -> dict[str, Tensor]:
    """The generator's weights by name, on the CPU, from the bytes of state.pt. Raises CheckpointError, ResumeError."""
    weights: dict[str, Tensor] = _decoded(data, torch.device("cpu"))["generator"]
    return weights


def _decoded(data: bytes, device: torch.device) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        newer = saved["format"] != STATE_FORMAT
    except Exception as error:
        # The unpickler has errors of its own; which class they are is no part of torch's interface.
        raise CheckpointError(f"not a saved state: {_first_line(error)}") from error
    if newer:
        raise ResumeError(
            f"the saved state is of format {saved['format']}, this program reads {STATE_FORMAT}; use the version "
            "that wrote it"
        )
    return saved


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [tensor for part in parts for tensor in _tensors_in(part)]
