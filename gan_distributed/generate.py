"""The verb `generate`: pictures from a run or a checkpoint, on any device, without Ray."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


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
    log_format: command.LogFormat = "text",
) -> None:
    """Write images of a trained generator (its averaged weights) as PNG files."""
    command.log_to_stderr(log_format)
    from gan_distributed.data import storage
    from gan_distributed.training.samples import encode_grid, encode_png, fixed_latents, generate_rows
    from gan_distributed.training.trained import load_trained

    if truncation is not None and not 0 < truncation < float("inf"):
        raise InputError(f"--truncation {truncation}: give a number above 0, such as 1, or leave it out")
    trained = load_trained(source)
    num_classes = trained.images.num_classes if trained.config.model.conditional else 0
    latents = fixed_latents(seed, num, trained.config.model.latent_dim, truncation)
    rows = generate_rows(trained.generator, latents, _labels(num, num_classes, label))
    if grid:
        storage.write(storage.join(out, "grid.png"), encode_grid(rows, num_classes))
    else:
        for index, row in enumerate(rows):
            storage.write(storage.join(out, f"{index:06d}.png"), encode_png(row))
    sys.stdout.write(f"{storage.join(out, 'grid.png') if grid else f'{num} images in {out}'}\n")


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
