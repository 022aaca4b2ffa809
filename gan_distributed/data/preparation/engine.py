"""Where the tasks of a preparation run: in this process, or on a Ray that the verb starts. Imports no Ray itself."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from gan_distributed import command
from gan_distributed.data import storage
from gan_distributed.data.preparation.conversion import ShardPlan, decode_part, drop_rows, write_shard
from gan_distributed.data.preparation.progress import Advance, Progress, Watcher
from gan_distributed.data.sources.entries import Reader, Source
from gan_distributed.data.sources.listing import Listing
from gan_distributed.errors import InputError

# Below these a local Ray takes longer to start than the work.
_FEW_RAW_IMAGES = 20_000
_FEW_FILES = 2_000


class Cluster(NamedTuple):
    """A Ray that runs."""

    # The module.
    ray: Any
    num_cpus: int
    # Options of every task.
    options: dict[str, Any]


# From the number of workers asked for, and whether tasks must stay on this machine, to a Ray for the time of a block;
# to None where it would not run them.
Start = Callable[[int | None, bool], contextlib.AbstractContextManager[Cluster | None]]


class Engine:
    """Runs the tasks here or, where there are many images, on a Ray that starts when it is first needed."""

    def __init__(
        self, source: Source, workers: int | None, urls: Sequence[str], start: Start, watcher: Watcher | None = None
    ) -> None:
        self._source, self._workers, self._start, self._watcher = source, workers, start, watcher
        self._in_memory = [url for url in urls if storage.protocol(url) == "memory"]
        # What lies on this machine's disk can be read and written here only.
        self._is_local = source.is_local or storage.local_path(urls[-1]) is not None
        self._stack = contextlib.ExitStack()
        self._cluster: Cluster | None = None
        self._was_started = False

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, at)

    def convert(self, reader: Reader, entries: Listing, plans: Sequence[ShardPlan]) -> None:
        """Write the shard and the receipt of each plan, telling the progress."""
        num_images = sum(plan.num_images for plan in plans)
        cluster = self._cluster_for(num_images)
        decoding = _convert_on_ray(cluster, reader, entries, plans) if cluster else _convert(reader, entries, plans)
        with command.progress(num_images, "images") as bar:
            progress = Progress(num_images, cluster.num_cpus if cluster else 1, self._watcher, bar)
            for advance in decoding:
                progress.add(advance)
        progress.end()

    def drop(self, plans: Sequence[ShardPlan]) -> None:
        """Write the shard of each plan again, without what it drops."""
        if self._cluster is None:
            for plan in plans:
                drop_rows(plan)
            return
        ray = self._cluster.ray
        drop = ray.remote(drop_rows).options(**self._cluster.options)
        running: list[Any] = []
        for plan in plans:
            running.append(drop.remote(plan))
            if len(running) > self._cluster.num_cpus:
                done, running = ray.wait(running)
                ray.get(done)
        ray.get(running)

    def _cluster_for(self, num_images: int) -> Cluster | None:
        if self._in_memory and self._workers:
            raise InputError(f"{self._in_memory[0]}: memory:// lives in one process; run with --workers 0")
        is_small = num_images < (_FEW_RAW_IMAGES if self._source.is_raw else _FEW_FILES)
        here = self._workers == 0 or self._in_memory or (self._workers is None and is_small)
        if not self._was_started and not here:
            self._was_started = True
            self._cluster = self._stack.enter_context(self._start(self._workers, self._is_local))
        return self._cluster


def _convert(reader: Reader, entries: Listing, plans: Sequence[ShardPlan]) -> Iterator[Advance]:
    for plan in plans:
        parts = []
        for part in plan.parts():
            parts.append(decode_part(reader, entries[part.start : part.stop], plan.prepared))
            yield Advance(len(part))
        written = write_shard(plan, entries[plan.start : plan.stop], *parts)
        yield Advance(0, written.num_bad, written.num_bytes)


def _convert_on_ray(
    cluster: Cluster, reader: Reader, entries: Listing, plans: Sequence[ShardPlan]
) -> Iterator[Advance]:
    """A task a part, and a task that makes a shard of them; only so many shards are under way that all cores work."""
    ray = cluster.ray
    decode, write = (ray.remote(task).options(**cluster.options) for task in (decode_part, write_shard))
    max_shards = 1 + -(-2 * cluster.num_cpus // len(plans[0].parts()))
    waiting = iter(plans)
    shards: list[Any] = []
    parts: dict[Any, int] = {}
    while True:
        for plan in itertools.islice(waiting, max_shards - len(shards)):
            listed = entries[plan.start : plan.stop]
            cut = [(part.start - plan.start, part.stop - plan.start) for part in plan.parts()]
            decoding = {decode.remote(reader, listed[start:stop], plan.prepared): stop - start for start, stop in cut}
            shards.append(write.remote(plan, listed, *decoding))
            parts.update(decoding)
        if not shards:
            return
        written, shards = ray.wait(shards, num_returns=1, timeout=0.5)
        done, _ = ray.wait(list(parts), num_returns=len(parts), timeout=0, fetch_local=False) if parts else ([], [])
        made = ray.get(written)
        yield Advance(
            sum(parts.pop(part) for part in done),
            sum(shard.num_bad for shard in made),
            sum(shard.num_bytes for shard in made),
        )
