"""Figures of a data set in a bucket on loopback, nothing cached: cold epochs, the first batch, CPU time of a stream."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gan_distributed.data.manifest import load_manifest
from stream_figures.bench import Bench
from stream_figures.bucket import Bucket, delayed
from stream_figures.contest import Entry
from stream_figures.local import compared
from stream_figures.rows import Figure, Found

_PIXELS = 64
_ROW_BYTES = _PIXELS * _PIXELS * 3
# Threads that the raw clients are tried with; the best counts.
_CLIENT_THREADS = (1, 2, 4, 8)
# Worker processes that peers are tried with.
_WORKERS = (0, 2)
# Batches of a trial of a peer's settings: enough to be over the start.
_TRIAL_BATCHES = 40
_ROUND_TRIP_S = 0.05
_FIRST_BATCH_S = 0.3 + 2 * _ROUND_TRIP_S


def http_share_of_limit(bench: Bench) -> Found:
    """A cold epoch over http:// against http.client reading the same objects whole into reused buffers."""
    key = bench.key("ours", _PIXELS)
    with bench.bucket(key) as bucket:
        objects = [(f"/bench/{key}/{shard.path}", shard.bytes) for shard in load_manifest(str(bench.data / key)).shards]
        limits = [
            bench.entry(
                f"http.client, threads: {threads}",
                "limit_http",
                host=bucket.host,
                objects=objects,
                threads=threads,
                row_bytes=_ROW_BYTES,
            )
            for threads in _CLIENT_THREADS
        ]
        best = bench.best("epoch", limits)
        return compared(*bench.contest("epoch", _ours(bench, bucket, "http"), best), against=best.name)


def gs_share_of_limit(bench: Bench) -> Found:
    """A cold epoch over gs:// against gcsfs' cat_file of all blocks at once, on some threads."""
    key = bench.key("ours", _PIXELS)
    with bench.bucket(key) as bucket:
        ranges = _block_ranges(str(bench.data / key), bucket.url("gs", key))
        limits = [
            replace(
                bench.entry(
                    f"cat_file, threads: {threads}", "limit_gcsfs", ranges=ranges, threads=threads, row_bytes=_ROW_BYTES
                ),
                environment=bucket.environment,
            )
            for threads in _CLIENT_THREADS
        ]
        best = bench.best("epoch", limits)
        return compared(*bench.contest("epoch", _ours(bench, bucket, "gs"), best), against=best.name)


def cold_epoch_against(bench: Bench, peer: Callable[..., Entry], module: str) -> Found:
    """A cold epoch of a peer over its best protocol and number of workers, against ours over http://."""
    with bench.bucket(bench.key("ours", _PIXELS), bench.key(module, _PIXELS)) as bucket:
        candidates = [peer(bench, bucket, workers=workers) for workers in _WORKERS]
        trials = [replace(entry, options={**entry.options, "num_batches": _TRIAL_BATCHES}) for entry in candidates]
        best = candidates[trials.index(bench.best("epoch", trials))]
        against = best.name.rsplit(", ", 1)[1]
        return compared(*bench.contest("epoch", _ours(bench, bucket, "http"), best), against=against)


def first_batch(bench: Bench, scheme: str) -> Found:
    """Seconds from nothing but imports to the first batch, out of a bucket that is a round trip away."""
    with bench.bucket(bench.key("ours", _PIXELS)) as near, delayed(near, _ROUND_TRIP_S) as bucket:
        entry = _ours(bench, bucket, scheme)
        (found,) = bench.contest("epoch", replace(entry, options={**entry.options, "num_batches": 1}))
    return Found(found.seconds, None, "", len(found.runs), found.redone, found.disturbed)


def cpu_mapped(bench: Bench) -> Found:
    """CPU time of the whole process, data mapped."""
    folder = bench.folder("ours", _PIXELS)
    return _cpu(bench, bench.entry("ours, mapped", "ours", pixels=_PIXELS, folder=folder, url=folder, config={}))


def cpu_from_file(bench: Bench) -> Found:
    """The same with blocks read from files, by ranges, as from a bucket: whole epochs, since blocks stay in memory."""
    folder = bench.folder("ours", _PIXELS)
    config = {"map_local": False}
    entry = bench.entry("ours, streamed from file", "ours", pixels=_PIXELS, folder=folder, url=folder, config=config)
    return _cpu(bench, entry, "epoch")


def cpu_http(bench: Bench) -> Found:
    """The same over HTTP; the server's time is its own."""
    with bench.bucket(bench.key("ours", _PIXELS)) as bucket:
        return _cpu(bench, _ours(bench, bucket, "http"), "epoch")


def litdata(bench: Bench, bucket: Bucket, workers: int) -> Entry:
    """LitData through obstore's S3 client."""
    url, endpoint = bucket.url("s3", bench.key("litdata_raw", _PIXELS)), f"http://{bucket.host}"
    options = {
        "pixels": _PIXELS,
        "url": url,
        "endpoint": endpoint,
        "cache": str(bench.scratch / "cache"),
        "workers": workers,
    }
    return replace(
        bench.entry(f"LitData, workers: {workers}", "litdata_raw", **options), environment=bucket.environment
    )


def mosaic(bench: Bench, bucket: Bucket, workers: int) -> Entry:
    """MosaicML Streaming through boto3."""
    url = bucket.url("s3", bench.key("mosaic_raw", _PIXELS))
    options = {"pixels": _PIXELS, "url": url, "cache": str(bench.scratch / "cache"), "workers": workers}
    return replace(bench.entry(f"MDS, workers: {workers}", "mosaic_raw", **options), environment=bucket.environment)


def webdataset(bench: Bench, bucket: Bucket, workers: int) -> Entry:
    """WebDataset through its own curl."""
    key = bench.key("webdataset_npy", _PIXELS)
    urls = [f"{bucket.url('http', key)}/{path.name}" for path in sorted((bench.data / key).glob("*.tar"))]
    return bench.entry(f"WebDataset, workers: {workers}", "webdataset_npy", pixels=_PIXELS, urls=urls, workers=workers)


def _ours(bench: Bench, bucket: Bucket, scheme: str) -> Entry:
    url = bucket.url(scheme, bench.key("ours", _PIXELS))
    return replace(
        bench.entry(f"ours, {scheme}://", "ours", pixels=_PIXELS, url=url, config={}), environment=bucket.environment
    )


def _cpu(bench: Bench, entry: Entry, work: str = "window") -> Found:
    (found,) = bench.contest(work, entry)
    return Found(found.cpu_s_per_million, None, "", len(found.runs), found.redone, found.disturbed)


def _block_ranges(folder: str, url: str) -> list[tuple[str, int, int]]:
    """(object, first byte, end) of each block's rows."""
    manifest = load_manifest(folder)
    found = []
    for block in range(len(manifest.block_lengths)):
        shard = int(manifest.block_shards[block])
        row = int(manifest.block_starts[block] - manifest.shard_starts[shard])
        start = manifest.shards[shard].data_offset + row * manifest.row_bytes
        stop = start + int(manifest.block_lengths[block]) * manifest.row_bytes
        found.append((f"{url}/{manifest.shards[shard].path}", start, stop))
    return found


_CPU_UNIT = "CPU-s"
FIGURES = (
    Figure("cold epoch over http:// from loopback: share of the raw client", http_share_of_limit, "share", 0.75),
    Figure(
        "cold epoch against LitData (s3://)",
        partial(cold_epoch_against, peer=litdata, module="litdata_raw"),
        "factor",
        6,
    ),
    Figure(
        "cold epoch against MosaicML Streaming (s3://)",
        partial(cold_epoch_against, peer=mosaic, module="mosaic_raw"),
        "factor",
        6,
    ),
    Figure(
        "cold epoch against WebDataset (http://)",
        partial(cold_epoch_against, peer=webdataset, module="webdataset_npy"),
        "factor",
        6,
    ),
    Figure("cold epoch over gs://: share of gcsfs' concurrent cat_file", gs_share_of_limit, "share", 0.90),
    Figure(
        f"first batch over http://, {1000 * _ROUND_TRIP_S:.0f} ms round trip",
        partial(first_batch, scheme="http"),
        "at_most",
        _FIRST_BATCH_S,
        "s",
    ),
    Figure(
        f"first batch over gs://, {1000 * _ROUND_TRIP_S:.0f} ms round trip",
        partial(first_batch, scheme="gs"),
        "at_most",
        _FIRST_BATCH_S,
        "s",
    ),
    Figure("a million 64 px images, mapped", cpu_mapped, "at_most", 2, _CPU_UNIT),
    Figure("a million 64 px images, streamed from file", cpu_from_file, "at_most", 5, _CPU_UNIT),
    Figure("a million 64 px images, streamed over http://", cpu_http, "at_most", 10, _CPU_UNIT),
)
