"""The verb `plan`: what a recipe needs on a cluster, by arithmetic: rates, bottleneck, checkpoints, hours, cost.

gan-distributed plan jobs/cifar10-r3gan.yaml --workers 8 --gpu H100 --images-per-s 1500 --price 3 --failures-per-day 0.5
"""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from gan_distributed.config import Config
    from gan_distributed.deployment.capacity import Plan, Work


def plan(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file such as jobs/cifar10-r3gan.yaml.")],
    workers: Annotated[int, typer.Option(help="Training processes, one a GPU.")],
    images_per_s: Annotated[
        float, typer.Option(help="What one worker alone makes of this recipe; measure it, as gan_images_per_second.")
    ],
    gpu: Annotated[str, typer.Option(help="Its name, for the heading; no rate is known here by name.")] = "GPU",
    resolution: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 32,
    channels: Annotated[int, typer.Option(help="1 for grey, 3 for colour.")] = 3,
    num_classes: Annotated[int, typer.Option(help="Classes, for conditional recipes.")] = 10,
    num_images: Annotated[
        int | None, typer.Option(help="Images of the data set.", show_default="unknown: nothing is kept in memory")
    ] = None,
    bucket_mb_per_s: Annotated[float, typer.Option(help="A worker's share of the bucket.")] = 100.0,
    network_gb_per_s: Annotated[float, typer.Option(help="Between workers, one direction, in gigabytes.")] = 5.0,
    latency_us: Annotated[float, typer.Option(help="Of one message between workers.")] = 20.0,
    copy_gb_per_s: Annotated[float, typer.Option(help="Host to device, in gigabytes.")] = 10.0,
    failures_per_day: Annotated[float, typer.Option(help="Failures and preemptions of one worker's node.")] = 0.0,
    restart_s: Annotated[float, typer.Option(help="From a failure to the next step.")] = 120.0,
    price: Annotated[float, typer.Option(help="Of one worker and hour.")] = 0.0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.field=value, over the recipe.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a number of workers gives for a recipe, on paper: nothing is measured here.

    Example: gan-distributed plan jobs/cifar10-r3gan.yaml --workers 8 --images-per-s 1500
    """
    from gan_distributed.config import load_config, parse_overrides
    from gan_distributed.deployment import capacity
    from gan_distributed.training.layout import advice

    _check_positive(
        workers=workers, images_per_s=images_per_s, bucket_mb_per_s=bucket_mb_per_s, network_gb_per_s=network_gb_per_s,
        copy_gb_per_s=copy_gb_per_s, channels=channels, num_images=1 if num_images is None else num_images,
    )  # fmt: skip
    config = load_config(recipe, parse_overrides(set_ or []))
    work = _work(config, workers, resolution, channels, num_classes, num_images)
    cluster = capacity.Cluster(
        workers=workers,
        images_per_s=images_per_s,
        bucket_bytes_per_s=bucket_mb_per_s * 1e6,
        network_bytes_per_s=network_gb_per_s * 1e9,
        latency_s=max(0.0, latency_us) * 1e-6,
        copy_bytes_per_s=copy_gb_per_s * 1e9,
        node_failures_per_day=max(0.0, failures_per_day),
        restart_s=max(0.0, restart_s),
        price_per_worker_h=price,
    )
    made = capacity.plan(work, cluster)
    for line in advice(config, workers, use_gpu=True):
        command.say(line)
    if as_json:
        values = dataclasses.asdict(made) | {"bottleneck": made.bottleneck.name, "parameters": work.parameters}
        sys.stdout.write(json.dumps(values, indent=1) + "\n")
        return
    command.say("on paper: the rates are those of the options, what was not given is assumed and not measured")
    sys.stdout.write(_table(f"{workers} x {gpu}, {recipe}", work, made, config))


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        if value <= 0:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: give more than 0")


def _work(
    config: "Config", workers: int, resolution: int, channels: int, num_classes: int, num_images: int | None
) -> "Work":
    from gan_distributed.deployment.capacity import Work
    from gan_distributed.models.networks import ImageSpec, num_parameters
    from gan_distributed.training.layout import largest_local_batch

    batch_size, lanes = config.training.batch_size, config.data.num_lanes
    if workers > min(lanes, batch_size):
        raise InputError(
            f"--workers {workers}: data.num_lanes {lanes} and training.batch_size {batch_size} feed at most "
            f"{min(lanes, batch_size)}"
        )
    return Work(
        total_images=1000 * config.training.total_kimg,
        batch_size=batch_size,
        local_batch=largest_local_batch(batch_size, lanes, workers),
        discriminator_steps=config.training.discriminator_steps,
        image_bytes=resolution**2 * channels,
        dataset_images=num_images,
        parameters=num_parameters(config.model, ImageSpec(resolution, channels, num_classes)),
        memory_bytes=config.data.memory_bytes,
    )


def _table(heading: str, work: "Work", made: "Plan", config: "Config") -> str:
    million = [f"{count / 1e6:.1f}" for count in work.parameters]
    lines = [
        heading,
        f"  {' + '.join(million)} million weights, at most {work.local_batch} images of each batch a worker",
    ]
    lines += [
        f"  {stage.name:22} {stage.images_per_s:12,.0f} images/s   {stage.bytes_moved / 1e9:12,.1f} GB in all"
        f"{'   <- the bottleneck' if stage is made.bottleneck else ''}"
        for stage in made.stages
    ]
    lines.append(
        f"  {made.images_per_s:,.0f} images/s, efficiency {made.efficiency:.0%}, reduction {made.reduction_share:.0%}"
    )
    saved = f"  a checkpoint takes {made.checkpoint_s:.1f} s"
    if made.goodput < 1:
        best_kimg = made.checkpoint_every_s * made.images_per_s / 1000
        saved += f"; best every {made.checkpoint_every_s:.0f} s, checkpoint.every_kimg={best_kimg:.4g}"
        saved += f" (the recipe: {config.checkpoint.every_kimg:g}); goodput {made.goodput:.1%}"
    lines.append(saved)
    cost = f", cost {made.cost:,.2f}" if made.cost else ""
    lines.append(f"  {config.training.total_kimg:,.0f} kimg take {made.hours:,.1f} hours{cost}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command.run(plan)
