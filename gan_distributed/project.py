"""The verb `project`: the latent of a generator whose image is nearest to a given image, on any device, without Ray."""

import json
import sys
from typing import Annotated, Any, Literal

import typer

from gan_distributed import command


def project(
    source: Annotated[
        str,
        typer.Argument(help="A run, one of its checkpoints, or a generator.safetensors: a path, gs://, s3://."),
    ],
    image: Annotated[str, typer.Argument(help="A file of one image, PNG, JPEG, WebP, …; may be a URL.")],
    out: Annotated[str, typer.Argument(help="Folder for the files; may be a URL.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search.")] = 500,
    starts: Annotated[int, typer.Option(min=1, max=64, help="Latents that it starts from.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other starts.")] = 0,
    label: Annotated[
        str | None,
        typer.Option(help="Class of the result, by name or number.", show_default="the one that comes nearest"),
    ] = None,
    crop: Annotated[
        Literal["center", "none"],
        typer.Option(help="center: the largest square; none: squeezed. As the data set was prepared."),
    ] = "center",
    film: Annotated[
        Literal["gif", "mp4"], typer.Option(help="Kind of the film of the search; mp4 needs ffmpeg.")
    ] = "gif",
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="the GPU where there is one")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what project.json says.")] = False,
) -> None:
    """Find the latent whose image is nearest to an image, by optimisation; a generator need not be able to make it.

    Writes target.png, projected.png, strip.png, film.gif, z.npy, and project.json, which tells what they are.

    Example: gan-distributed project runs/faces photo.jpg projected --steps 1000
    """
    record = search_latent(
        source, image, out, steps=steps, starts=starts, seed=seed, label=label, crop=crop, film=film, device=device
    )
    if as_json:
        sys.stdout.write(json.dumps(record) + "\n")
    else:
        of_class = f", class {record['class']}" if "class" in record else ""
        sys.stdout.write(f"{record['rmse']:.1f} of 255 levels from the image{of_class}; {out}\n")


def search_latent(
    source: str,
    image: str,
    out: str,
    *,
    steps: int = 500,
    starts: int = 4,
    seed: int = 0,
    label: str | int | None = None,
    crop: Literal["center", "none"] = "center",
    film: Literal["gif", "mp4"] = "gif",
    device: str | None = None,
) -> dict[str, Any]:
    """What the command does; returns what project.json says. Raises GanError."""
    from gan_distributed.pictures import projected
    from gan_distributed.pictures.projection import Search
    from gan_distributed.pictures.subjects import parse_label
    from gan_distributed.training.trained import load_trained

    name = f"film.{film}"
    projected.check_place(out, name)
    trained = load_trained(source)
    chosen = parse_label(trained, label)
    labels = list(range(trained.num_classes)) or [0]
    target = projected.read_target(image, trained, crop)
    search = Search(steps, starts, seed)
    found = projected.project(trained, target, labels if chosen is None else [chosen], search, device, command.say)
    return projected.write_projection(found, out, name)


if __name__ == "__main__":
    command.run(project)
