"""The verb `generate`: pictures from a run or a checkpoint, on any device, without Ray."""

import json
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.errors import InputError


def generate(
    source: Annotated[
        str,
        typer.Argument(help="A run, one of its checkpoints, or a generator.safetensors: a path, gs://, s3://."),
    ],
    out: Annotated[
        str,
        typer.Argument(help="Folder for the PNG files; for one picture also a file's name: .png, or .gif and .mp4."),
    ],
    num: Annotated[
        int | None, typer.Option(min=1, help="Number of images.", show_default="64, or 4 with --interpolate")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other images.")] = 0,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds instead of --seed and --num, as 0..99: the first image of each.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Class of all images, by name or number.", show_default="the classes in turn"),
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Draw z within this of 0: typical images, less variety; 0.5 to 2 are usual.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="One grid.png instead of single files.")] = False,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="From image to image: interpolation.png, or a .gif or .mp4.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps from image to image.", show_default="8, or 24 in .gif and .mp4")
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="One sheet.png: a row a class (or seed), a column a truncation.")
    ] = False,
    truncations: Annotated[
        str, typer.Option(help="Columns of --sheet; `none` for no limit.")
    ] = "0.25,0.5,0.75,1,1.5,2",
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Write manifest.json, too: seed, class, checkpoint of each file.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="the GPU where there is one")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="In float32, sooner; a pixel may be off by one of its 256 levels.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell what was written as JSON.")] = False,
) -> None:
    """Write images of a trained generator (its averaged weights) as PNG files, one picture, or a film.

    The same seed and class give the same file, however many are made at once.

    Example: gan-distributed generate runs/faces pictures --num 64 --grid
    """
    from gan_distributed.data import storage
    from gan_distributed.pictures.maker import Maker
    from gan_distributed.pictures.studio import Studio, parse_truncation, parse_truncations
    from gan_distributed.pictures.subjects import Selection, parse_label, parse_seeds
    from gan_distributed.pictures.writing import encode_manifest
    from gan_distributed.training.trained import load_trained

    form = _form(out, grid, interpolate, sheet)
    if seeds is not None and (num is not None or seed):
        raise InputError("--seeds: it takes the place of --seed and --num; leave these out")
    if steps is not None and not interpolate:
        raise InputError(f"--steps {steps}: only with --interpolate")
    limit, limits = parse_truncation(truncation), parse_truncations(truncations)
    chosen = None if seeds is None else parse_seeds(seeds)
    if not out.endswith(_PICTURES) and storage.size(out) is not None:
        raise InputError(f"{out}: a file; name a folder, or a picture's name, as {out}.png")
    trained = load_trained(source)
    selection = Selection(seed, num, chosen, parse_label(trained, label))
    maker = Maker(trained, device, fast=fast)
    studio = Studio(trained, selection, limit, command.say, maker)
    place = out if out.endswith(_PICTURES) or form == "files" else storage.join(out, f"{form}.png")
    files: Iterable[dict[str, Any]]
    if form == "sheet":
        files = studio.sheet(place, limits)
    elif form == "grid":
        files = studio.grid(place)
    elif form == "files":
        files = studio.files(place)
    elif place.endswith(_FILMS):
        files = studio.film(place, steps or 24)
    else:
        files = studio.strip(place, steps or 8)
    # Without a manifest nothing is kept of a file once it is there.
    kept = list(files) if manifest else []
    num_files = len(kept) if manifest else sum(1 for _ in files)
    if manifest:
        content = encode_manifest(trained, kept, truncation=limit, device=maker.device, fast=fast)
        storage.write(f"{out}.json" if out.endswith(_PICTURES) else storage.join(out, "manifest.json"), content)
    if as_json:
        sys.stdout.write(json.dumps({"out": place, "num_files": num_files, "checkpoint_sha256": trained.sha256}) + "\n")
    else:
        sys.stdout.write((f"{num_files} images in {place}" if form == "files" else place) + "\n")


_FILMS = (".gif", ".mp4")
_PICTURES = (".png", *_FILMS)


def _form(out: str, grid: bool, interpolate: bool, sheet: bool) -> str:
    """What to make: files, grid, interpolation or sheet. Raises InputError where OUT does not fit it."""
    given = [name for name, is_given in (("grid", grid), ("interpolation", interpolate), ("sheet", sheet)) if is_given]
    if len(given) > 1:
        raise InputError("--grid, --interpolate, --sheet: give one of them")
    form = given[0] if given else "files"
    if form == "files" and out.endswith(_PICTURES):
        raise InputError(f"{out}: single images need a folder; name one, or give --grid, --interpolate or --sheet")
    if form in ("grid", "sheet") and out.endswith(_FILMS):
        raise InputError(f"{out}: --{form} is a picture that stands still; name a .png or a folder")
    return form


if __name__ == "__main__":
    command.run(generate)
