"""What each worker runs, with and without Ray: its stream, state and loop; again from an older checkpoint after numbers
went bad.
"""

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from gan_distributed.config import Config, to_yaml
from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest, load_manifest
from gan_distributed.data.order import Order
from gan_distributed.data.stream import Stream
from gan_distributed.errors import ConfigError
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training import lease
from gan_distributed.training.archive import Archive, clock_of_best
from gan_distributed.training.checkpoint import newest_checkpoint
from gan_distributed.training.checkpoint_writer import CheckpointWriter
from gan_distributed.training.collapse import CollapseError
from gan_distributed.training.feed import page_locked, valid_batches
from gan_distributed.training.fine_tuning import read_origin
from gan_distributed.training.hardware import device_name
from gan_distributed.training.link import Link
from gan_distributed.training.loop import Loop
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.parts import Partition
from gan_distributed.training.precision import dtype_of, set_precision, with_precision
from gan_distributed.training.records import Recorder, read_records
from gan_distributed.training.retention import collect_orphans
from gan_distributed.training.rollbacks import num_returns, record_rollback, return_to_best
from gan_distributed.training.run_folder import RunFolder, Start, check_resume, read_config
from gan_distributed.training.saving import Scribe
from gan_distributed.training.scoring import Scoring
from gan_distributed.training.self_check import check_gradients
from gan_distributed.training.sinks import open_sinks
from gan_distributed.training.state import NonfiniteError, TrainState
from gan_distributed.training.timing import PhaseTimer
from gan_distributed.training.world import World


@dataclass(frozen=True)
class Assignment:
    """What the driver gives to every worker; picklable.

    owner: the launch.   fingerprint: the data set's.   allowed: keys that a resume may change.
    code_folders: where the driver found the user's own family and loss; looked at last, where they are there.
    """

    config: Config
    data_url: str
    run_url: str
    owner: str
    fingerprint: str
    allowed: frozenset[str]
    code_folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resume:
    """Where an attempt starts, as rank 0 found it.

    config: with what was left open for the run's first start to choose.   state: that of the run's checkpoint.
    origin: that of another run, whose networks this one starts with.
    """

    config: Config
    attempt: int
    seen_images: int
    state: bytes | None
    origin: bytes | None
    rollbacks: int
    returns: int
    replayed_images: int


def run_rank(assignment: Assignment, world: World, cpus_per_worker: int, link: Link) -> Outcome:
    """Train on this rank until the run is done or stopped. Raises GanError."""
    torch.set_num_threads(cpus_per_worker)
    run = RunFolder(assignment.run_url)
    storage.configure(assignment.data_url, assignment.config.data.storage_options)
    manifest = load_manifest(assignment.data_url, assignment.fingerprint)
    if assignment.config.metrics.phase_times:
        world = replace(world, timer=PhaseTimer(world.device))
    gpu_bytes = functools.partial(torch.cuda.max_memory_reserved, world.device) if world.device.type == "cuda" else None
    name = run.url.rsplit("/", 1)[-1]
    metrics = WorkerMetrics(assignment.config.metrics, name, world.rank, world.local_rank, gpu_bytes)
    with contextlib.closing(metrics):
        outcome = _attempts(assignment, manifest, world, metrics, link)
        if outcome.kind == "done":
            with link.unhurried():
                metrics.linger(link.stop_requested)
        return outcome


def _attempts(assignment: Assignment, manifest: Manifest, world: World, metrics: WorkerMetrics, link: Link) -> Outcome:
    """Attempts on the same workers, each from an older checkpoint than the last, until one is done or stopped."""
    run = RunFolder(assignment.run_url)
    while True:
        held: list[lease.Lease] = []
        try:
            resume = world.on_rank_zero(lambda: _begin(assignment, run, held, world))  # noqa: B023 - called at once
            return _attempt(assignment, manifest, world, metrics, resume, held, link)
        except NonfiniteError as error:
            reason = str(error)
            world.on_rank_zero(lambda: record_rollback(run, reason, "nonfinite", link.say))  # noqa: B023 - called at once
        except CollapseError as error:
            told, best = error.reason, error.best_seen_images
            world.on_rank_zero(lambda: return_to_best(run, best, told, link.say))  # noqa: B023 - called at once
        except torch.OutOfMemoryError as error:
            raise _too_large(assignment.config, world, error) from error
        finally:
            for one in held:
                one.release()


def _too_large(config: Config, world: World, error: Exception) -> ConfigError:
    told, part = str(error).split(". ")[0], -(-config.training.batch_size // world.size)
    images = min(part, config.training.micro_batch_size or part)
    return ConfigError(
        f"rank {world.rank}, {device_name(world.device)}: {told}; {images} images pass through the networks at once: "
        "set training.micro_batch_size lower, or take more workers or narrower networks"
    )


def _attempt(
    assignment: Assignment,
    manifest: Manifest,
    world: World,
    metrics: WorkerMetrics,
    resume: Resume,
    held: list[lease.Lease],
    link: Link,
) -> Outcome:
    config, run = resume.config, RunFolder(assignment.run_url)
    set_precision(config, world.device)
    images, names = ImageSpec(manifest.height, manifest.channels, manifest.num_classes), manifest.class_names or ()
    is_new = resume.state is None and resume.origin is None
    state = TrainState(config, images, world, resume.rollbacks, draws_weights=is_new)
    if resume.state is not None:
        state.load(resume.state)
    elif resume.origin is not None:
        state.adopt(resume.origin)
    check_gradients(config, state, world.device)
    order = Order(manifest.block_lengths, config.seed, config.data.num_lanes, config.data.window_blocks)
    stream = Stream(
        assignment.data_url,
        manifest,
        order,
        config.data,
        config.training.batch_size,
        world.rank,
        world.size,
        valid_batches=valid_batches(config, world),
        allocate=page_locked if world.device.type == "cuda" else None,
    )
    metrics.publish_start(config, world.size, resume.seen_images, resume.replayed_images)
    with contextlib.closing(stream), _scribe(config, run, state, names, held, link) as scribe:
        stream.start(state.seen_images)
        link.progress(state.seen_images)
        if scribe is not None:
            link.committed(resume.seen_images)
            start = f"resuming at {state.seen_images / 1000:.1f} kimg" if resume.seen_images else "starting"
            start += f" with the networks of {config.from_checkpoint}" if resume.origin is not None else ""
            link.say(
                f"attempt {resume.attempt}: {start} on {world.size} x {world.device.type} "
                f"in {config.training.precision}, run {run.url}"
            )
            if config.training.compile:
                link.say("the first steps are compiled, which takes from some seconds to minutes")
        scoring = None
        if config.score.every_kimg is not None:
            left = config.score.max_rollbacks - resume.returns
            number = None if scribe is None else resume.attempt
            data = assignment.data_url, manifest
            # Statistics of the real images may take longer than any step.
            with link.unhurried():
                scoring = Scoring(config, world, run, data, metrics, number, left, link.say)
        outcome = Loop(config, world, state, stream, metrics, link, scribe, scoring).run()
        if scribe is not None and outcome.kind == "done":
            done = {"seen_images": outcome.seen_images, "last_grid": outcome.last_grid, "record": outcome.record}
            storage.write(run.done_url, json.dumps(done, indent=1).encode())
        return outcome


def _begin(assignment: Assignment, run: RunFolder, held: list[lease.Lease], world: World) -> Resume:
    """Take the lease, record the configuration, find the checkpoint to go on from. Rank 0."""
    held.append(lease.acquire(run, assignment.owner))
    found = newest_checkpoint(run, "state")
    seen_images = found[0].seen_images if found else 0
    config = with_precision(assignment.config, read_config(run), world.device)
    # What cannot be is refused before it is written down.
    Partition(config, world, dtype_of(config))
    origin, networks = (None, None) if found else read_origin(config.from_checkpoint)
    start = Start(held[0].attempt, seen_images, origin)
    recorded = check_resume(run, config, assignment.fingerprint, set(assignment.allowed), start)
    storage.write(run.config_url, to_yaml(recorded).encode())
    rollbacks = len(storage.names(storage.join(run.url, "rollbacks")))
    collect_orphans(run, seen_images if found else None)
    records = read_records(run)
    shown = records[-1]["seen_images"] if records else 0
    replayed = max(0, shown - seen_images)
    state = found[1] if found else None
    return Resume(config, held[0].attempt, seen_images, state, networks, rollbacks, num_returns(run), replayed)


@contextlib.contextmanager
def _scribe(
    config: Config,
    run: RunFolder,
    state: TrainState,
    class_names: tuple[str, ...],
    held: list[lease.Lease],
    link: Link,
) -> Iterator[Scribe | None]:
    """Rank 0's writers; None on the other ranks."""
    if not held:
        yield None
        return
    holder = held[0]
    recorder = Recorder(run, holder.attempt)
    archive = Archive(config, run, state.images, class_names, recorder, holder, link.committed)
    first = functools.partial(archive.take_over, state.saved_seen_images, clock_of_best(state.best_score))
    writer = CheckpointWriter(archive.commit, archive.tidy, config.checkpoint.write_timeout_s, first)
    try:
        sinks = open_sinks(config, run, holder.attempt, state.seen_images)
        yield Scribe(run, holder.attempt, holder.check_known, writer, recorder, link.say, sinks)
    finally:
        writer.close()
