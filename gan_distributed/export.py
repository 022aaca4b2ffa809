"""The verb `export`: the averaged generator of a run or a checkpoint for other programs, with a card."""

import difflib
import json
import sys
from typing import Annotated, Literal, cast, get_args

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

Kind = Literal["safetensors", "torch-export", "onnx"]


def export(
    source: Annotated[
        str, typer.Argument(help="A run, one of its checkpoints, or a generator.safetensors: a path, gs://, s3://.")
    ],
    out: Annotated[str, typer.Argument(help="Folder for the files; may be a URL.")],
    format_: Annotated[
        list[str] | None,
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
    from gan_distributed.exporting.publishing import publish
    from gan_distributed.training.trained import load_trained

    kinds = list(dict.fromkeys(_kind(word) for word in format_ or ["safetensors"]))
    card = publish(load_trained(source), out, kinds, license_, command.say)
    told = json.dumps(card) if as_json else f"{', '.join(sorted(card['files']))} in {out}; what they are: card.json"
    sys.stdout.write(told + "\n")


def _kind(word: str) -> Kind:
    known = get_args(Kind)
    if word not in known:
        close = difflib.get_close_matches(word, known, n=1)
        raise InputError(
            f"--format {word}: " + (f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}")
        )
    return cast(Kind, word)


if __name__ == "__main__":
    command.run(export)
