"""Figures of a data set on a local disk, page cache warm: against the limits of the memory, and against peers."""

import os
from functools import partial

from stream_figures.bench import Bench
from stream_figures.contest import Entry, Result
from stream_figures.rows import Figure, Found

_CORES = os.cpu_count() or 1
_MEMCPY_BYTES = 512 << 20
# Worker processes that peers are tried with; the best counts.
_WORKERS = tuple(sorted({0, 1, _CORES}))


def memcpy(bench: Bench) -> Found:
    """Copies, one thread."""
    (found,) = bench.contest("window", Entry("memcpy", "limit_memcpy", options={"bytes": _MEMCPY_BYTES}))
    return Found(None, found.images_per_s / 1e9, "", len(found.runs), found.redone, found.disturbed)


def gather_limit(bench: Bench, pixels: int, threads: int) -> Found:
    """np.take of the same rows into one buffer, and nothing else."""
    (found,) = bench.contest("window", _gather(bench, pixels, threads))
    return Found(None, found.images_per_s, "", len(found.runs), found.redone, found.disturbed)


def share_of_gather_limit(bench: Bench, threads: int) -> Found:
    """How much of the limit is left when a batch has an order, labels and checks."""
    return compared(*bench.contest("window", ours(bench, 64, threads), _gather(bench, 64, threads)))


def against_ffcv(bench: Bench, pixels: int, threads: int) -> Found:
    """FFCV with as many threads (and its own pipeline thread beside them)."""
    folder = bench.folder("ffcv_raw", pixels)
    theirs = bench.entry("FFCV", "ffcv_raw", pixels=pixels, folder=folder, threads=threads)
    return compared(*bench.contest("window", ours(bench, pixels, threads), theirs))


def against_peer(bench: Bench, name: str, module: str, workers: tuple[int, ...] = _WORKERS) -> Found:
    """A loader at the best of its numbers of worker processes, against ours at its defaults."""
    folder = bench.folder(module, 64)
    candidates = [
        bench.entry(f"{name}, workers: {count}", module, pixels=64, folder=folder, workers=count) for count in workers
    ]
    best = bench.best("window", candidates)
    return compared(*bench.contest("window", ours(bench, 64), best), against=best.name.rsplit(", ", 1)[1])


def against_torch(bench: Bench, workers: int) -> Found:
    """A DataLoader that gathers whole batches from the mapped pictures; in the caller against ours in the caller."""
    folder = bench.folder("pictures", 64)
    theirs = bench.entry(f"torch, workers: {workers}", "torch_memmap", pixels=64, folder=folder, workers=workers)
    return compared(*bench.contest("window", ours(bench, 64, 1 if workers else 0), theirs))


def ours(bench: Bench, pixels: int, threads: int = 1) -> Entry:
    """Our stream of the local data set."""
    folder = bench.folder("ours", pixels)
    # One is the default, and versions without the option have one.
    config = {} if threads == 1 else {"gather_threads": threads}
    name = f"ours, gather threads: {threads}"
    return bench.entry(name, "ours", pixels=pixels, folder=folder, url=folder, config=config)


def compared(mine: Result, theirs: Result, against: str = "") -> Found:
    """Images a second of both."""
    disturbed = mine.disturbed + theirs.disturbed
    redone = mine.redone + theirs.redone
    return Found(mine.images_per_s, theirs.images_per_s, against, len(mine.runs), redone, disturbed)


def _gather(bench: Bench, pixels: int, threads: int) -> Entry:
    folder = bench.folder("pictures", pixels)
    return bench.entry(f"gather, {pixels} px, threads: {threads}", "limit_gather", folder=folder, threads=threads)


_LOCAL = "local, cache warm, 64 px, batch 128, shuffled"
FIGURES = (
    Figure("limit: memcpy, 512 MiB, 1 thread", memcpy, "limit", unit="GB/s"),
    Figure("limit: gather, 64 px, 1 thread", partial(gather_limit, pixels=64, threads=1), "limit"),
    Figure("limit: gather, 64 px, 2 threads", partial(gather_limit, pixels=64, threads=2), "limit"),
    Figure("limit: gather, 128 px, 1 thread", partial(gather_limit, pixels=128, threads=1), "limit"),
    Figure("limit: gather, 128 px, 2 threads", partial(gather_limit, pixels=128, threads=2), "limit"),
    Figure(f"{_LOCAL}, 1 thread: share of the limit", partial(share_of_gather_limit, threads=1), "share", 0.85),
    Figure(f"{_LOCAL}, 2 threads: share of the limit", partial(share_of_gather_limit, threads=2), "share", 0.80),
    Figure("against FFCV raw, 64 px, 1 thread each", partial(against_ffcv, pixels=64, threads=1), "factor", 1.3),
    Figure("against FFCV raw, 64 px, 2 threads each", partial(against_ffcv, pixels=64, threads=2), "factor", 1.3),
    Figure("against FFCV raw, 128 px, 1 thread each", partial(against_ffcv, pixels=128, threads=1), "factor", 1.0),
    Figure("against FFCV raw, 128 px, 2 threads each", partial(against_ffcv, pixels=128, threads=2), "factor", 1.0),
    Figure("against LitData raw", partial(against_peer, name="LitData", module="litdata_raw"), "factor", 10),
    Figure("against MosaicML Streaming raw", partial(against_peer, name="MDS", module="mosaic_raw"), "factor", 10),
    Figure("against WebDataset npy", partial(against_peer, name="WebDataset", module="webdataset_npy"), "factor", 10),
    Figure(
        "against Ray Data, Parquet of binary values",
        partial(against_peer, name="Ray Data", module="ray_parquet", workers=(_CORES,)),
        "factor",
        10,
    ),
    Figure("against torch DataLoader, memmap, in the caller", partial(against_torch, workers=0), "factor", 1.15),
    Figure("against torch DataLoader, memmap, 1 worker", partial(against_torch, workers=1), "factor", 7),
    Figure("against torch DataLoader, memmap, 2 workers", partial(against_torch, workers=2), "factor", 7),
)
