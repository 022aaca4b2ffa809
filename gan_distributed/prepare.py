"""The verb `prepare`: raw images to a prepared data set, in parallel on Ray or in this process. Safe to run again."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.data import storage
from gan_distributed.data.conversion import (
    ShardPlan,
    block_rows_of,
    decode_part,
    detect_channels,
    plan_shards,
    write_shard,
)
from gan_distributed.data.entries import Reader, Source
from gan_distributed.data.imaging import Crop
from gan_distributed.data.manifest import Manifest, Preparation
from gan_distributed.data.publication import (
    check_quarantine,
    damaged_files,
    existing_manifest,
    known_receipts,
    publish,
    sum_up,
)
from gan_distributed.data.receipts import Receipt
from gan_distributed.data.sources import open_source
from gan_distributed.errors import DataError, GanError, InputError, StorageError

# Below these a local Ray takes longer to start than the work.
_FEW_RAW_IMAGES = 20_000
_FEW_FILES = 2_000
_TOLD_EVERY_S = 10.0
_TOLD_EVERY_TERMINAL_S = 0.2

# Images just decoded, and (shard's number, receipt) once a shard is written.
Event = tuple[int, tuple[int, Receipt] | None]


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, .zip, .tar or .tar.gz of images, an IDX file, torchvision:CLASS?root=DIR&split=train, or "
            "builtin:fashion-mnist. Paths may be URLs: gs://, s3://."
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
) -> None:
    """Turn raw images into shards and a manifest that `train` can stream.

    Safe to run again: the same command finishes what is missing. Bad images are listed in DEST/quarantine.jsonl.
    """
    command.log_to_stderr()
    _check_options(resolution, channels, limit, workers, max_bad, block_mib)
    dest = storage.absolute(dest)
    with open_source(source) as opened:
        entries = opened.entries
        if limit is not None:
            entries.spread(limit)
        if channels is None:
            channels = detect_channels(opened.reader, entries)
            command.say(f"channels: {channels}, judged by a sample; --channels {4 - channels} makes it otherwise")
        prepared = Preparation.model_validate({"resolution": resolution, "channels": channels, "crop": crop})
        plans = plan_shards(dest, entries, prepared, block_rows_of(prepared, block_mib))
        existing = existing_manifest(dest, repair)
        receipts = known_receipts(dest, plans, existing, opened.class_names, repair)
        missing = [plan for plan in plans if plan.number not in receipts]
        for _, written in _told(missing, _convert(opened, missing, workers, source, dest)):
            if written is not None:
                receipts[written[0]] = written[1]
    outcome = sum_up(plans, receipts, opened.class_names)
    if existing is not None:
        if outcome.manifest is None or outcome.manifest.fingerprint != existing.fingerprint:
            raise DataError(f"{dest}: was prepared from other images, or other software; prepare into another folder")
        damaged = damaged_files(dest, outcome, verify=repair)
        if damaged and not repair:
            raise DataError(f"{dest}: {damaged[0]} is missing or short; run the same command with --repair")
        if not damaged and not missing:
            _conclude("already prepared", dest, existing)
            return
    check_quarantine(dest, outcome, len(entries), max_bad if existing is None else 1.0)
    _conclude("prepared" if existing is None else "repaired", dest, publish(dest, outcome, plans))


def _check_options(
    resolution: int, channels: int | None, limit: int | None, workers: int | None, max_bad: float, block_mib: int
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


def _convert(
    opened: Source, plans: Sequence[ShardPlan], workers: int | None, source: str, dest: str
) -> Iterator[Event]:
    """Decode and write what the plans say, here or on Ray."""
    if not plans:
        return iter(())
    in_memory = [url for url in (source, dest) if storage.protocol(url) == "memory"]
    if in_memory and workers:
        raise InputError(f"{in_memory[0]}: memory:// lives in one process; run with --workers 0")
    num_images = sum(len(plan.entries) for plan in plans)
    is_small = num_images < (_FEW_RAW_IMAGES if opened.is_raw else _FEW_FILES)
    if workers == 0 or in_memory or (workers is None and is_small):
        return _convert_here(opened.reader, plans)
    is_local = opened.is_local or storage.local_path(dest) is not None
    return _convert_on_ray(opened.reader, plans, workers, is_local)


def _convert_here(reader: Reader, plans: Sequence[ShardPlan]) -> Iterator[Event]:
    for plan in plans:
        parts = []
        for entries in plan.parts():
            parts.append(decode_part(reader, entries, plan.prepared))
            yield len(entries), None
        yield 0, (plan.number, write_shard(plan, *parts))


def _convert_on_ray(reader: Reader, plans: Sequence[ShardPlan], workers: int | None, is_local: bool) -> Iterator[Event]:
    """A task a part, and a task that makes a shard of them; only so many shards are under way that all cores work.

    is_local: the source or the data set is on this machine's disk, so the tasks stay here.
    """
    with _ray_running(workers) as (ray, num_cpus):
        options = {}
        if is_local:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id=here, soft=False)
        decode = ray.remote(decode_part).options(**options)
        write = ray.remote(write_shard).options(**options)
        waiting = list(reversed(plans))
        num_parts = len(plans[0].parts())
        max_shards = 1 + -(-2 * num_cpus // num_parts)
        shards: dict[Any, int] = {}
        parts: dict[Any, int] = {}
        while waiting or shards:
            while waiting and len(shards) < max_shards:
                plan = waiting.pop()
                decoding = {decode.remote(reader, part, plan.prepared): len(part) for part in plan.parts()}
                shards[write.remote(plan, *decoding)] = plan.number
                parts.update(decoding)
            finished, _ = ray.wait(list(shards), num_returns=1, timeout=0.5)
            decoded, _ = (
                ray.wait(list(parts), num_returns=len(parts), timeout=0, fetch_local=False) if parts else ([], [])
            )
            yield sum(parts.pop(part) for part in decoded), None
            for shard in finished:
                yield 0, (shards.pop(shard), ray.get(shard))


@contextlib.contextmanager
def _ray_running(workers: int | None) -> Iterator[tuple[Any, int]]:
    """The ray module and the number of cores: of the cluster at RAY_ADDRESS, or of a Ray that lives as long as this."""
    # Ray's own token authentication is for clusters; what starts here listens on this machine only.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
    was_running = ray.is_initialized()
    try:
        if not was_running:
            _check_address(address)
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
        with _terminable():
            yield ray, workers or int(ray.cluster_resources().get("CPU", 1))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GanError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        said = str(error).splitlines()[0]
        raise StorageError(
            f"a decoding process was lost ({said}); run the same command with fewer --workers"
        ) from error
    finally:
        if not was_running:
            ray.shutdown()


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
    except SystemExit:
        sys.exit(command.EXIT_TERMINATED if received else 1)
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_address(address: str | None) -> None:
    """Raise InputError where nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(
                f"RAY_ADDRESS={address}: no Ray answers there ({error}); unset it to run on this machine"
            ) from error


def _told(plans: Sequence[ShardPlan], events: Iterator[Event]) -> Iterator[Event]:
    """The same events, with the progress on stderr."""
    total = sum(len(plan.entries) for plan in plans)
    started = told = time.monotonic()
    done = 0
    is_terminal = sys.stderr.isatty()
    for event in events:
        done += event[0]
        now = time.monotonic()
        if done and now - told >= (_TOLD_EVERY_TERMINAL_S if is_terminal else _TOLD_EVERY_S):
            told = now
            rate = done / (now - started)
            left_s = int((total - done) / rate)
            line = f"{done} of {total} images, {rate:.0f} images/s, {left_s // 60}:{left_s % 60:02d} left"
            sys.stderr.write(f"\r\033[K{line}" if is_terminal else f"{line}\n")
            sys.stderr.flush()
        yield event
    if total:
        seconds = max(time.monotonic() - started, 1e-9)
        sys.stderr.write("\r\033[K" if is_terminal else "")
        command.say(f"{done} images in {seconds:.1f} s, {done / seconds:.0f} images/s")


def _conclude(what: str, dest: str, manifest: Manifest) -> None:
    num_bytes = sum(shard.bytes for shard in manifest.shards)
    shape = f"{manifest.height}x{manifest.width}x{manifest.channels}"
    typer.echo(
        f"{what}: {dest} holds {manifest.num_images} images of {shape} in {manifest.num_classes} classes, "
        f"{manifest.num_quarantined} quarantined, {num_bytes / 2**20:.1f} MiB"
    )


if __name__ == "__main__":
    command.run(prepare)
