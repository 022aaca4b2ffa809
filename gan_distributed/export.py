"""The verb `export`: the averaged generator of a run or a checkpoint for other programs, with a card."""

import json
import sys
from typing import Annotated, Literal

import typer

from gan_distributed import command

Kind = Literal["safetensors", "torch-export", "onnx"]


def export(
    source: Annotated[
        str, typer.Argument(help="A run, one of its checkpoints, or a generator.safetensors: a path, gs://, s3://.")
    ],
    out: Annotated[str, typer.Argument(help="Folder for the files; may be a URL.")],
    format_: Annotated[
        list[Kind] | None,
        typer.Option(
            "--format",
            help="safetensors: the weights; torch-export: a program for torch alone; onnx: for any runtime of ONNX. "
            "Repeatable.",
            show_default="safetensors",
        ),
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="What the card says of the weights, as mit; an SPDX identifier.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card.")] = False,
) -> None:
    """Write a generator in formats of other programs, with a card (card.json) and a page (README.md).

    Safe to run again; other formats of the same checkpoint stay.

    Example: gan-distributed export runs/faces exported --format onnx
    """
    command.log_to_stderr()
    from gan_distributed.exporting.publishing import publish
    from gan_distributed.training.trained import load_trained

    kinds: list[Kind] = list(dict.fromkeys(format_ or ["safetensors"]))
    card = publish(load_trained(source), out, kinds, license_, command.say)
    told = json.dumps(card) if as_json else f"{', '.join(sorted(card['files']))} in {out}; what they are: card.json"
    sys.stdout.write(told + "\n")


if __name__ == "__main__":
    command.run(export)
