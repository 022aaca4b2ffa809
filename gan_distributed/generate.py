"""The verb `generate`: pictures from a run or a checkpoint, on any device, without Ray."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gan_distributed import command
from gan_distributed.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_distributed.config import Config


def generate(
    source: Annotated[str, typer.Argument(help="A run, or one of its checkpoints: a path, gs://, s3://.")],
    out: Annotated[str, typer.Argument(help="Folder for the PNG files.")],
    num: Annotated[int, typer.Option(min=1, help="Number of images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other images.")] = 0,
    label: Annotated[int | None, typer.Option(min=0, help="Class of all images, for conditional networks.")] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Draw z within this of 0: typical images, less variety; 0.5 to 2 are usual.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="One grid.png instead of single files.")] = False,
) -> None:
    """Write images of a trained generator (its averaged weights) as PNG files."""
    command.log_to_stderr()
    from gan_distributed.data import storage
    from gan_distributed.training.samples import encode_grid, encode_png, fixed_latents, generate_rows

    if truncation is not None and not 0 < truncation < float("inf"):
        raise InputError(f"--truncation {truncation}: give a number above 0, such as 1, or leave it out")
    generator, config, num_classes = load_generator(source)
    latents = fixed_latents(seed, num, config.model.latent_dim, truncation)
    rows = generate_rows(generator, latents, _labels(num, num_classes, label))
    if grid:
        storage.write(storage.join(out, "grid.png"), encode_grid(rows, num_classes))
    else:
        for index, row in enumerate(rows):
            storage.write(storage.join(out, f"{index:06d}.png"), encode_png(row))
    sys.stdout.write(f"{storage.join(out, 'grid.png') if grid else f'{num} images in {out}'}\n")


def load_generator(source: str) -> "tuple[nn.Module, Config, int]":
    """The averaged generator of a run's newest checkpoint, or of one checkpoint; its configuration and classes."""
    import safetensors
    import safetensors.torch

    from gan_distributed.config import parse_config
    from gan_distributed.models.networks import ImageSpec, empty_generator

    data = _read_generator(source)
    # The file begins with the length of its JSON header, which holds the metadata.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header["__metadata__"]
    config = parse_config(metadata["config"], source)
    images = ImageSpec(int(metadata["resolution"]), int(metadata["channels"]), int(metadata["num_classes"]))
    generator = empty_generator(config.model, images)
    weights = safetensors.torch.load(data)
    generator.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    return generator.eval(), config, images.num_classes if config.model.conditional else 0


def _read_generator(source: str) -> bytes:
    from gan_distributed.data import storage
    from gan_distributed.training.checkpoint import COMMIT_NAME, newest_checkpoint, open_checkpoint
    from gan_distributed.training.run_folder import RunFolder

    if storage.exists(storage.join(source, COMMIT_NAME)):
        return open_checkpoint(source).read("generator")
    run = RunFolder(storage.absolute(source))
    if not storage.exists(run.config_url):
        raise InputError(
            f"{source}: neither a run nor a checkpoint; give OUTPUT/RUN_ID, or a folder in its checkpoints/"
        )
    found = newest_checkpoint(run, "generator")
    if found is None:
        raise CheckpointError(f"{source}: the run has no checkpoint yet; wait for the first one")
    return found[1]


def _labels(num: int, num_classes: int, label: int | None) -> "Tensor":
    import torch

    from gan_distributed.training.samples import grid_labels

    if label is None:
        return grid_labels(num, num_classes)
    if label >= max(1, num_classes):
        known = f"0 to {num_classes - 1}" if num_classes else "none: the generator is unconditional"
        raise InputError(f"--label {label}: known classes are {known}")
    return torch.full((num,), label)


if __name__ == "__main__":
    command.run(generate)
