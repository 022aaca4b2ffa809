"""The generator of a run or checkpoint, ready to use, and what it came with."""

import json
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import nn

from gan_distributed.config import Config, parse_config
from gan_distributed.data import storage
from gan_distributed.errors import CheckpointError, InputError
from gan_distributed.models.networks import ImageSpec, empty_generator
from gan_distributed.training.checkpoint import COMMIT_NAME, Checkpoint, newest_checkpoint, open_checkpoint
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.state import raw_generator


@dataclass(frozen=True)
class Trained:
    """A generator in evaluation mode on the CPU, in the memory layout that training gave it.

    weights: ema, the average, or raw, those that training goes on with.   run: the run's folder; None where a
    checkpoint lies elsewhere.
    """

    generator: nn.Module
    weights: str
    config: Config
    images: ImageSpec
    seen_images: int
    run: RunFolder | None


def load_trained(source: str, *, raw: bool = False) -> Trained:
    """From a run's newest checkpoint, or from one checkpoint's folder; raises InputError where it is neither."""
    checkpoint, data, run = read_checkpoint(source, "generator")
    # The file begins with the length of its JSON header, which holds the metadata.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header["__metadata__"]
    config = parse_config(metadata["config"], source)
    images = ImageSpec(int(metadata["resolution"]), int(metadata["channels"]), int(metadata["num_classes"]))
    generator = empty_generator(config.model, images)
    weights = raw_generator(checkpoint.read("state")) if raw else safetensors.torch.load(data)
    generator.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    if config.training.channels_last:
        # Another layout takes other kernels, whose last bits differ.
        generator.to(memory_format=torch.channels_last)
    return Trained(generator.eval(), "raw" if raw else "ema", config, images, int(metadata["seen_images"]), run)


def read_checkpoint(source: str, role: str) -> tuple[Checkpoint, bytes, RunFolder | None]:
    """One file of a checkpoint's folder, or of a run's newest checkpoint; raises InputError where it is neither.

    Returns the checkpoint, the bytes, and the run; None where the checkpoint lies elsewhere.
    """
    if storage.exists(storage.join(source, COMMIT_NAME)):
        parts = storage.absolute(source).split("/")
        run = RunFolder("/".join(parts[:-2])) if parts[-2] == "checkpoints" else None
        checkpoint = open_checkpoint(storage.absolute(source))
        return checkpoint, checkpoint.read(role), run
    run = RunFolder(storage.absolute(source))
    if not storage.exists(run.config_url):
        raise InputError(
            f"{source}: neither a run nor a checkpoint; give OUTPUT/RUN_ID, or a folder in its checkpoints/"
        )
    found = newest_checkpoint(run, role)
    if found is None:
        raise CheckpointError(f"{source}: the run has no checkpoint yet; wait for the first one")
    return *found, run
