"""The verb `plan`: what a recipe needs on a cluster, by arithmetic: rates, bottleneck, checkpoints, hours, cost.

gan-distributed plan jobs/cifar10-r3gan.yaml --workers 8 --gpu H100 --price 3 --failures-per-day 0.5
"""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from gan_distributed.config import Config
    from gan_distributed.deployment.capacity import Plan, Work
    from gan_distributed.models.networks import ImageSpec


def plan(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file such as jobs/cifar10-r3gan.yaml.")],
    workers: Annotated[int, typer.Option(help="Training processes, one a GPU.")],
    images_per_s: Annotated[
        float | None,
        typer.Option(
            help="What one worker alone makes of this recipe; measure it, as gan_images_per_second.",
            show_default="a range, by the data sheet of --gpu",
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="T4, V100, A10G, L4, L40S, A100-40, A100-80, H100, H100-PCIe, H200 or B200.")
    ] = None,
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

    Example: gan-distributed plan jobs/cifar10-r3gan.yaml --workers 8 --gpu H100
    """
    from gan_distributed.config import load_config, parse_overrides
    from gan_distributed.deployment.capacity import Cluster, plan
    from gan_distributed.models.networks import ImageSpec
    from gan_distributed.training.layout import advice

    _check_positive(
        workers=workers, images_per_s=images_per_s, bucket_mb_per_s=bucket_mb_per_s, network_gb_per_s=network_gb_per_s,
        copy_gb_per_s=copy_gb_per_s, channels=channels, num_images=num_images,
    )  # fmt: skip
    config = load_config(recipe, parse_overrides(set_ or []))
    images = ImageSpec(resolution, channels, num_classes)
    work = _work(config, workers, images, num_images)
    rates, told = _rates(config, images, work, gpu, images_per_s)
    cluster = Cluster(
        workers=workers,
        images_per_s=rates[0],
        bucket_bytes_per_s=bucket_mb_per_s * 1e6,
        network_bytes_per_s=network_gb_per_s * 1e9,
        latency_s=max(0.0, latency_us) * 1e-6,
        copy_bytes_per_s=copy_gb_per_s * 1e9,
        node_failures_per_day=max(0.0, failures_per_day),
        restart_s=max(0.0, restart_s),
        price_per_worker_h=price,
    )
    made = [plan(work, dataclasses.replace(cluster, images_per_s=rate)) for rate in rates]
    for line in [*advice(config, workers, use_gpu=True), *told]:
        command.say(line)
    if as_json:
        sys.stdout.write(json.dumps(_values(work, rates, made), indent=1) + "\n")
        return
    command.say("on paper: the rates are those of the options, what was not given is assumed and not measured")
    sys.stdout.write(_table(f"{workers} x {gpu or 'worker'}, {recipe}", work, made, config))


def _rates(
    config: "Config", images: "ImageSpec", work: "Work", gpu: str | None, images_per_s: float | None
) -> tuple[list[float], list[str]]:
    """What one worker alone makes: the number that was measured, else from least to most; and what to tell of it."""
    from gan_distributed.deployment import gpus

    known = None if gpu is None else gpus.find_gpu(gpu)
    if images_per_s is not None:
        return [images_per_s], []
    if known is None:
        raise InputError(
            f"nothing says how fast a worker is; give a measured --images-per-s, or --gpu NAME: {', '.join(gpus.GPUS)}"
        )
    if config.model.is_own:
        raise InputError(
            f"model.family {config.model.family}: the work of your own networks is not counted; measure one "
            "worker and give --images-per-s"
        )
    from gan_distributed.deployment.step_work import step_work

    precision = known.precision(config.training.precision)
    # Refuses what it cannot do before anything is counted.
    known.peak(precision)
    asked = step_work(config, images, work.local_batch, precision)
    size = work.local_batch * work.discriminator_steps
    found = [
        gpus.bounds(known, precision, asked, share, launch_s)
        for share, launch_s in zip(gpus.SHARES, gpus.LAUNCHES_S, strict=True)
    ]
    rates = [size / one.seconds for one in found]
    limits = " or ".join(dict.fromkeys(one.limit for one in found))
    shares = " to ".join(f"{share:.0%}" for share in gpus.SHARES)
    launches = " to ".join(f"{launch_s * 1e6:g}" for launch_s in gpus.LAUNCHES_S)
    told = [
        f"counted in {precision}: an image takes {asked.flops / size / 1e9:,.3g} GFLOP and moves "
        f"{asked.moved_bytes / size / 1e6:,.0f} MB, a step starts {asked.kernels:,.0f} kernels",
        f"warning: not measured: a worker's {_range(rates, ',.0f')} images/s are {shares} of {known.name}'s data sheet "
        f"(assumed), at {launches} us a kernel (assumed); the limit: {limits}. --images-per-s of a short run is better",
        f"within one machine the data sheet has --network-gb-per-s {known.link_bytes_per_s / 1e9:g}; between machines "
        "their network cards count",
    ]
    return rates, told


def _check_positive(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: give more than 0")


def _work(config: "Config", workers: int, images: "ImageSpec", num_images: int | None) -> "Work":
    from gan_distributed.deployment.capacity import Work
    from gan_distributed.models.networks import num_parameters
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
        image_bytes=images.resolution**2 * images.channels,
        dataset_images=num_images,
        parameters=num_parameters(config.model, images),
        memory_bytes=config.data.memory_bytes,
        gradient_bytes=4 if config.training.reduction_precision is None else 2,
    )


def _values(work: "Work", rates: list[float], made: list["Plan"]) -> dict[str, Any]:
    """For machines: one plan, or the least and the most of a range."""
    plans = [
        dataclasses.asdict(one) | {"bottleneck": one.bottleneck.name, "images_per_s_of_one_worker": rate}
        for rate, one in zip(rates, made, strict=True)
    ]
    first = plans[0] if len(plans) == 1 else {"least": plans[0], "most": plans[1]}
    return {**first, "parameters": work.parameters, "is_measured": len(plans) == 1}


def _table(heading: str, work: "Work", made: list["Plan"], config: "Config") -> str:
    million = [f"{count / 1e6:.1f}" for count in work.parameters]
    lines = [
        heading,
        f"  {' + '.join(million)} million weights, at most {work.local_batch} images of each batch a worker",
    ]
    slowest = {one.bottleneck.name for one in made}
    for stage in made[0].stages:
        rates = [each.images_per_s for one in made for each in one.stages if each.name == stage.name]
        mark = "   <- the bottleneck" if stage.name in slowest else ""
        lines.append(
            f"  {stage.name:22} {_range(rates, ',.0f'):>18} images/s   {stage.bytes_moved / 1e9:12,.1f} GB in all{mark}"
        )
    lines.append(
        f"  {_range([one.images_per_s for one in made], ',.0f')} images/s, efficiency "
        f"{_range([one.efficiency for one in made], '.0%')}, reduction "
        f"{_range([one.reduction_share for one in made], '.0%')}"
    )
    saved = f"  a checkpoint takes {made[0].checkpoint_s:.1f} s"
    if made[0].goodput < 1:
        best_kimg = [one.checkpoint_every_s * one.images_per_s / 1000 for one in made]
        saved += f"; best every {_range([one.checkpoint_every_s for one in made], '.0f')} s, "
        saved += f"checkpoint.every_kimg={_range(best_kimg, '.4g')} (the recipe: {config.checkpoint.every_kimg:g}); "
        saved += f"goodput {_range([one.goodput for one in made], '.1%')}"
    lines.append(saved)
    cost = f", cost {_range([one.cost for one in made], ',.2f')}" if made[0].cost else ""
    hours = _range([one.hours for one in made], ",.1f")
    lines.append(f"  {config.training.total_kimg:,.0f} kimg take {hours} hours{cost}")
    return "\n".join(lines) + "\n"


def _range(values: list[float], form: str) -> str:
    """A number, or two where they are not the same when written."""
    written = dict.fromkeys(format(value, form) for value in sorted(values))
    return " to ".join(written)


if __name__ == "__main__":
    command.run(plan)
