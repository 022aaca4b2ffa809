"""The generator of a run or checkpoint, ready to use, and what it came with."""

import hashlib
import json
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor, nn

from gan_distributed.config import Config, parse_config
from gan_distributed.data import storage
from gan_distributed.errors import CheckpointError, InputError
from gan_distributed.models.networks import ImageSpec, empty_generator
from gan_distributed.training.checkpoint import COMMIT_NAME, Checkpoint, newest_checkpoint, open_checkpoint
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.state import raw_generator

GENERATOR_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Trained:
    """A generator in evaluation mode on the CPU, in the memory layout that training gave it.

    weights: ema, the average, or raw, those that training goes on with.   url, sha256: the checkpoint's folder and the
    digest of its file that the weights come from; both of the file where it lies alone.   class_names: empty where the
    data set has none, or the checkpoint is older than they are.   run: the run's folder; None where it lies elsewhere.
    """

    generator: nn.Module
    weights: str
    config: Config
    images: ImageSpec
    seen_images: int
    url: str
    sha256: str
    class_names: tuple[str, ...]
    run: RunFolder | None

    @property
    def num_classes(self) -> int:
        """Classes that the generator can be asked for, 0 where it is unconditional."""
        return self.images.num_classes if self.config.model.conditional else 0


def load_trained(source: str, *, raw: bool = False) -> Trained:
    """From a run's newest checkpoint, from one checkpoint's folder, or from a generator's .safetensors file alone.

    Raises InputError where it is none of them.
    """
    if source.endswith(GENERATOR_SUFFIX):
        return _load_file(source, raw=raw)
    checkpoint, data, run = read_checkpoint(source, "generator")
    generator, metadata = _generator_of(data, source)
    if not raw:
        sha256 = checkpoint.files["generator"].sha256
        return _trained(generator, safetensors.torch.load(data), metadata, checkpoint.url, sha256, "ema", run)
    weights = raw_generator(checkpoint.read("state"))
    sha256 = checkpoint.files["state"].sha256
    return _trained(generator, weights, metadata, checkpoint.url, sha256, "raw", run)


def _load_file(source: str, *, raw: bool) -> Trained:
    if raw:
        raise InputError(f"{source}: a file of averaged weights; give the run or checkpoint for those of training")
    data = storage.read_bytes(source)
    generator, metadata = _generator_of(data, source)
    sha256 = hashlib.sha256(data).hexdigest()
    return _trained(generator, safetensors.torch.load(data), metadata, storage.absolute(source), sha256, "ema", None)


def _generator_of(data: bytes, source: str) -> tuple[nn.Module, "_Metadata"]:
    """A generator without weights, and what its file says of it."""
    try:
        # The file begins with the length of its JSON header, which holds the metadata.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        images = ImageSpec(*(int(header[name]) for name in ("resolution", "channels", "num_classes")))
        seen_images, class_names = int(header["seen_images"]), tuple(json.loads(header.get("class_names", "[]")))
        text = header["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{source}: not a generator that this program wrote ({error})") from error
    config = parse_config(text, source)
    return empty_generator(config.model, images), _Metadata(config, images, seen_images, class_names)


@dataclass(frozen=True)
class _Metadata:
    """What a generator's file says of it."""

    config: Config
    images: ImageSpec
    seen_images: int
    class_names: tuple[str, ...]


def _trained(
    generator: nn.Module,
    weights: dict[str, Tensor],
    said: _Metadata,
    url: str,
    sha256: str,
    kind: str,
    run: RunFolder | None,
) -> Trained:
    generator.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    if said.config.training.channels_last:
        # Another layout takes other kernels, whose last bits differ.
        generator.to(memory_format=torch.channels_last)
    return Trained(
        generator.eval(), kind, said.config, said.images, said.seen_images, url, sha256, said.class_names, run
    )


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
            f"{source}: neither a run nor a checkpoint; give OUTPUT/RUN_ID, a folder in its checkpoints/, or a file "
            f"generator{GENERATOR_SUFFIX}"
        )
    found = newest_checkpoint(run, role)
    if found is None:
        raise CheckpointError(f"{source}: the run has no checkpoint yet; wait for the first one")
    return *found, run
