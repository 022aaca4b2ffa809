"""The verb `bench-data`: what a data set's place and this machine give, beside the limits measured on the spot."""

import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from gan_distributed.config import DataConfig
    from gan_distributed.data.manifest import Manifest

_MB = 1e6
_SAMPLE_BYTES = 256 << 20
# Of its limit, what counts as being held back by it.
_NEAR = 0.6


def bench_data(
    url: Annotated[str, typer.Argument(help="A prepared data set: a path, gs://, s3://, http://.")],
    seconds: Annotated[float, typer.Option(min=0.2, help="How long each figure is measured.")] = 3.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch.")] = 128,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A key of a recipe's data section: data.fetch_threads=16.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of words.")] = False,
) -> None:
    """Measure how fast images of a data set reach this machine, what holds them back, and what to change.

    Example: gan-distributed bench-data gs://bucket/photos-64
    """
    from gan_distributed.config import load_config, parse_overrides
    from gan_distributed.data import storage
    from gan_distributed.data.manifest import load_manifest

    url = storage.absolute(url)
    config = load_config(None, parse_overrides(settings or [])).data
    storage.configure(url, config.storage_options)
    manifest = load_manifest(url)
    if manifest.num_images < config.num_lanes:
        raise InputError(
            f"{url}: {manifest.num_images} images are fewer than data.num_lanes {config.num_lanes}; "
            f"--set data.num_lanes={manifest.num_images}"
        )
    found = measure(url, manifest, config, batch_size, seconds)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(_told(url, manifest, found) + "\n")


def measure(url: str, manifest: "Manifest", config: "DataConfig", batch_size: int, seconds: float) -> dict[str, Any]:
    """All figures; a mapped set's rate is the median of windows of a tenth of `seconds`, a fetched one's is cold."""
    from gan_distributed.data.order import Order
    from gan_distributed.data.stream import Stream

    order = Order(manifest.block_lengths, 0, config.num_lanes, config.window_blocks)
    started = time.perf_counter()
    stream = Stream(url, manifest, order, config, batch_size, 0, 1)
    try:
        stream.start(0)
        stream.next()
        first_s = time.perf_counter() - started
        is_mapped = stream.is_mapped
        if is_mapped:
            images_per_s = _rate(lambda: len(stream.next().images), seconds)
        else:
            images_per_s = _cold_rate(lambda: len(stream.next().images), manifest.num_images, started, seconds)
        came_from = dict(stream.bytes_read)
    finally:
        stream.close()
    gather_per_s = _gather_limit(manifest, batch_size, seconds)
    found: dict[str, Any] = {
        "images_per_s": images_per_s,
        "mb_per_s": images_per_s * manifest.row_bytes / _MB,
        "seconds_to_first_batch": first_s,
        "way": "mapped" if is_mapped else "fetched",
        "mb_from": {source: num / _MB for source, num in came_from.items()},
        "gather_limit_images_per_s": gather_per_s,
        "share_of_gather_limit": images_per_s / gather_per_s,
        "memcpy_mb_per_s": _memcpy_limit(seconds) / _MB,
    }
    if not is_mapped:
        for name, threads in (
            ("raw_mb_per_s", config.fetch_threads),
            ("raw_doubled_mb_per_s", 2 * config.fetch_threads),
        ):
            found[name] = _raw_limit(url, manifest, threads, config.read_timeout_s, seconds) / _MB
        found["share_of_raw_limit"] = found["mb_per_s"] / found["raw_mb_per_s"]
    found["bottleneck"], found["advice"] = _judged(found, manifest, config)
    return found


def _rate(take: Callable[[], int], seconds: float) -> float:
    """Units a second that `take` returns, the median of ten windows; the first one only warms up."""
    rates = []
    for _ in range(11):
        started, done = time.perf_counter(), 0
        while (now := time.perf_counter()) - started < seconds / 10:
            done += take()
        rates.append(done / (now - started))
    return statistics.median(rates[1:])


def _cold_rate(take: Callable[[], int], epoch: int, started: float, seconds: float) -> float:
    """Images a second since `started`, over the first epoch or as much of it as comes in `seconds`."""
    done = 0
    while True:
        done += take()
        now = time.perf_counter()
        if done >= epoch or now - started > seconds:
            return done / (now - started)


def _gather_limit(manifest: "Manifest", batch_size: int, seconds: float) -> float:
    """Images a second that one thread gathers at random from memory into one buffer."""
    import numpy as np

    num = max(batch_size, min(manifest.num_images, _SAMPLE_BYTES // manifest.row_bytes))
    rows = np.ones((num, manifest.row_bytes), np.uint8)
    places = np.random.default_rng(0).integers(0, num, (64, batch_size))
    out, turn = np.zeros((batch_size, manifest.row_bytes), np.uint8), itertools.cycle(range(64))

    def take() -> int:
        rows.take(places[next(turn)], 0, out, "clip")
        return batch_size

    return _rate(take, seconds)


def _memcpy_limit(seconds: float) -> float:
    """Bytes a second that one thread copies from memory to memory."""
    import numpy as np

    source, target = np.ones(_SAMPLE_BYTES, np.uint8), np.zeros(_SAMPLE_BYTES, np.uint8)

    def take() -> int:
        target[:] = source
        return _SAMPLE_BYTES

    return _rate(take, seconds)


def _raw_limit(url: str, manifest: "Manifest", num_threads: int, timeout_s: float, seconds: float) -> float:
    """Bytes a second that threads read in whole blocks into buffers of their own, unchecked."""
    from gan_distributed.data import storage
    from gan_distributed.data.ranges import RangeReader
    from gan_distributed.data.target import Target

    starts = manifest.block_starts - manifest.shard_starts[manifest.block_shards]
    turn, done, stop_at = itertools.count(), [0] * num_threads, time.perf_counter() + seconds

    def read(index: int) -> None:
        buffer = memoryview(bytearray(manifest.block_rows * manifest.row_bytes))
        while time.perf_counter() < stop_at:
            block = next(turn) % len(starts)
            record = manifest.shards[int(manifest.block_shards[block])]
            part = buffer[: int(manifest.block_lengths[block]) * manifest.row_bytes]
            place = record.data_offset + int(starts[block]) * manifest.row_bytes
            reader.fetch(storage.join(url, record.path), place, Target(part))
            done[index] += len(part)

    threads = [threading.Thread(target=read, args=(index,)) for index in range(num_threads)]
    with RangeReader(url, timeout_s) as reader:
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.perf_counter() - started)


def _judged(found: dict[str, Any], manifest: "Manifest", config: "DataConfig") -> tuple[str, str]:
    """What holds the images back, and what to change."""
    num_bytes = manifest.num_images * manifest.row_bytes
    keep = f"--set data.cache_bytes={2 * num_bytes} keeps the data set ({num_bytes / _MB:.0f} MB) on each node's disk"
    if found["way"] == "mapped":
        if found["share_of_gather_limit"] > _NEAR:
            return "memory", "nothing: images come about as fast as memory gives them"
        return "disk", "the disk is read for the first time, or other programs use it; a second run tells"
    if "bucket" not in found["mb_from"] or found["share_of_gather_limit"] > _NEAR:
        return "memory", "nothing: the blocks are in memory or on this disk already"
    if found["raw_doubled_mb_per_s"] > 1.3 * found["raw_mb_per_s"]:
        return "waiting for the store", f"--set data.fetch_threads={2 * config.fetch_threads}; over epochs, {keep}"
    if found["share_of_raw_limit"] > _NEAR:
        return "the store or the network", f"read nearer to the bucket; over epochs, {keep}"
    return "this machine's processors", f"more cores a worker; over epochs, {keep}"


def _told(url: str, manifest: "Manifest", found: dict[str, Any]) -> str:
    shape = f"{manifest.height}x{manifest.width}x{manifest.channels}"
    lines = [
        f"{url}: {manifest.num_images} images of {shape}, {found['way']}",
        f"images/s            {found['images_per_s']:12.0f}   {found['mb_per_s']:.0f} MB/s",
        f"to the first batch  {found['seconds_to_first_batch']:12.2f} s",
        f"gather limit        {found['gather_limit_images_per_s']:12.0f} images/s, one thread; "
        f"{found['share_of_gather_limit']:.0%} of it are reached",
        f"memcpy limit        {found['memcpy_mb_per_s']:12.0f} MB/s, one thread",
    ]
    if "raw_mb_per_s" in found:
        lines.append(
            f"raw reads           {found['raw_mb_per_s']:12.0f} MB/s; {found['share_of_raw_limit']:.0%} of them are "
            f"reached; {found['raw_doubled_mb_per_s']:.0f} MB/s with twice the threads"
        )
    return "\n".join([*lines, f"held back by: {found['bottleneck']}", f"to change: {found['advice']}"])


if __name__ == "__main__":
    command.run(bench_data)
