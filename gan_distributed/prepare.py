"""The verb `prepare`: raw images to a prepared data set, in parallel on Ray or in this process. Safe to run again."""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.config import holds_credential
from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest, Preparation, load_manifest
from gan_distributed.data.preparation.assembly import Request, Result, add_images, make_dataset
from gan_distributed.data.preparation.conversion import block_rows_of, detect_channels
from gan_distributed.data.preparation.engine import Engine
from gan_distributed.data.preparation.imaging import Crop
from gan_distributed.data.preparation.metrics import PreparationMetrics
from gan_distributed.data.preparation.ray_session import ray_session
from gan_distributed.data.preparation.splits import parts_of, splits_of
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import InputError, StorageError


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, .zip, .tar or .tar.gz of images; IDX, WebDataset, Parquet, MDS, HDF5 or LMDB files; "
            "torchvision:CLASS?root=DIR&split=train, hf:OWNER/NAME, kaggle:OWNER/NAME or builtin:fashion-mnist. "
            "Paths may be URLs: gs://, s3://."
        ),
    ],
    dest: Annotated[str, typer.Argument(help="The folder for the prepared data set; may be a URL.")],
    resolution: Annotated[int, typer.Option(help="Side of the prepared images in pixels: 8 to 1024, a multiple of 4.")],
    channels: Annotated[
        int | None, typer.Option(help="1 for grey, 3 for colour.", show_default="1 where a sample holds no colour")
    ] = None,
    crop: Annotated[
        Crop, typer.Option(help="center: the largest square in the middle; none: squeeze the whole image.")
    ] = "center",
    limit: Annotated[
        int | None, typer.Option(help="Take only so many images, spread over the classes.", show_default="all")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode; 0: this process, without Ray.", show_default="the cores"),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Verify each shard's sha256 and rewrite what is wrong.")
    ] = False,
    max_bad: Annotated[float, typer.Option(help="Fail where more than this share of the images is bad.")] = 0.01,
    block_mib: Annotated[int, typer.Option(help="Size of a block, the unit of reading and shuffling, in MiB.")] = 4,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Of images that become equal, keep only the first.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(help="NAME=SHARE, as test=0.1: make two data sets, DEST/NAME and DEST/train, by names' hashes."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add the images of SOURCE that the data set does not hold yet.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve /metrics for Prometheus on this port.", show_default="none"),
    ] = None,
    metrics_linger: Annotated[float, typer.Option(min=0, help="Seconds that /metrics stays after the end.")] = 0,
    pushgateway: Annotated[
        str | None, typer.Option(help="http://HOST:PORT of a Pushgateway, told of the end.", show_default="none")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell what was made as JSON, an object a data set.")] = False,
) -> None:
    """Turn raw images into shards and a manifest that `train` can stream.

    Safe to run again: the same command finishes what is missing. Bad images are listed in DEST/quarantine.jsonl, equal
    ones in DEST/duplicates.jsonl.

    Example: gan-distributed prepare ./photos gs://bucket/photos-64 --resolution 64
    """
    _check_urls(source, dest, pushgateway)
    _check_options(resolution, channels, limit, workers, max_bad, block_mib, append and repair)
    splits = splits_of(storage.absolute(dest), split)
    name = dest.rstrip("/").rsplit("/", 1)[-1]
    command.about(run=name)
    with (
        _terminable(),
        contextlib.closing(PreparationMetrics(name, metrics_port, pushgateway)) as metrics,
        open_source(source) as opened,
        Engine(opened, workers, (source, dest), ray_session, metrics) as engine,
    ):
        if limit is not None:
            opened.entries.spread(limit)
        if channels is None and append:
            channels = load_manifest(splits[0][0]).channels
        elif channels is None:
            channels = detect_channels(opened.reader, opened.entries)
            command.say(f"channels: {channels}, judged by a sample; --channels {4 - channels} makes it otherwise")
        prepared = Preparation.model_validate(
            {"resolution": resolution, "channels": channels, "crop": crop, "drop_duplicates": drop_duplicates}
        )
        for place, entries in parts_of(opened.entries, splits):
            request = Request(
                place, entries, opened.class_names, opened.reader, prepared, block_rows_of(prepared, block_mib),
                max_bad, repair,
            )  # fmt: skip
            result = add_images(request, engine) if append else make_dataset(request, engine)
            sys.stdout.write((json.dumps(_facts(place, result)) if as_json else _told(place, result, prepared)) + "\n")
        metrics.finish(metrics_linger)


def _check_urls(source: str, dest: str, pushgateway: str | None) -> None:
    if pushgateway is not None and not pushgateway.startswith(("http://", "https://")):
        raise InputError(f"--pushgateway {pushgateway}: give a URL, such as http://pushgateway:9091")
    for name, url in (("SOURCE", source), ("DEST", dest), ("--pushgateway", pushgateway or "")):
        if holds_credential(url):
            raise InputError(
                f"{name}: the URL holds a password or a signature, which logs would tell; put it into the environment"
            )


def _check_options(
    resolution: int,
    channels: int | None,
    limit: int | None,
    workers: int | None,
    max_bad: float,
    block_mib: int,
    is_append_repair: bool,
) -> None:
    if resolution % 4 or not 8 <= resolution <= 1024:
        raise InputError(f"--resolution {resolution}: give a multiple of 4 from 8 to 1024")
    if channels not in (None, 1, 3):
        raise InputError(f"--channels {channels}: give 1 for grey or 3 for colour")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give 1 or more")
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: give 0 to run without Ray, or more")
    if not 0 <= max_bad <= 1:
        raise InputError(f"--max-bad {max_bad}: give a share from 0 to 1")
    if not 1 <= block_mib <= 64:
        raise InputError(f"--block-mib {block_mib}: give 1 to 64")
    if is_append_repair:
        raise InputError("--append and --repair: give one of them")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """End with EXIT_TERMINATED at SIGTERM, after tidying up; left to itself Ray ends with another code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def leave(number: int, _: object) -> None:
        received.append(number)
        sys.exit(command.EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    # Where the signal meets Ray while it waits, Ray raises a SystemExit of its own.
    except SystemExit as error:
        if received:
            sys.exit(command.EXIT_TERMINATED)
        raise StorageError("Ray ended while it was at work; run the same command again") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _facts(dest: str, result: Result) -> dict[str, Any]:
    manifest: Manifest = result.manifest
    return {
        "did": result.did,
        "dest": dest,
        "fingerprint": manifest.fingerprint,
        "images": manifest.num_images,
        "resolution": manifest.height,
        "channels": manifest.channels,
        "classes": manifest.num_classes,
        "quarantined": manifest.num_quarantined,
        "duplicates": result.num_duplicates,
        "bytes": sum(shard.bytes for shard in manifest.shards),
    }


def _told(dest: str, result: Result, prepared: Preparation) -> str:
    facts = _facts(dest, result)
    shape = f"{result.manifest.height}x{result.manifest.width}x{result.manifest.channels}"
    duplicates = f"{facts['duplicates']} duplicates{' dropped' if prepared.drop_duplicates else ''}"
    return (
        f"{result.did}: {dest} holds {facts['images']} images of {shape} in {facts['classes']} classes, "
        f"{facts['quarantined']} quarantined, {duplicates}, {facts['bytes'] / 2**20:.1f} MiB"
    )


if __name__ == "__main__":
    command.run(prepare)
