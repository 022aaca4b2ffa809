"""What a job needs and what a cluster gives, on paper: a rate for each stage, the bottleneck, checkpoints, hours, cost.

Arithmetic only. Every input that was not measured is an assumption of the caller's.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """What is assumed of the machines.

    images_per_s: of one worker alone, steps as they are.   bucket: one worker's share of the bucket.   network: between
    workers, one direction.   latency_s: of one message.   copy: host to device.   node_failures_per_day: of one pod.
    """

    workers: int
    images_per_s: float
    bucket_bytes_per_s: float
    network_bytes_per_s: float
    latency_s: float
    copy_bytes_per_s: float
    node_failures_per_day: float
    restart_s: float
    price_per_worker_h: float


@dataclass(frozen=True)
class Work:
    """What is to be done.

    local_batch: the largest of any rank.   parameters: of generator and discriminator.   memory_bytes: blocks that one
    worker keeps, for later epochs.   gradient_bytes: of one weight, as workers send it.
    """

    total_images: float
    batch_size: int
    local_batch: int
    discriminator_steps: int
    image_bytes: int
    dataset_images: float | None
    parameters: tuple[int, int]
    memory_bytes: int
    gradient_bytes: int = 4


@dataclass(frozen=True)
class Stage:
    """A part of the way of an image: what it can pass on, all workers together."""

    name: str
    images_per_s: float
    bytes_moved: float


@dataclass(frozen=True)
class Plan:
    """The result; stages from the slowest on."""

    stages: tuple[Stage, ...]
    images_per_s: float
    efficiency: float
    reduction_share: float
    checkpoint_s: float
    checkpoint_every_s: float
    goodput: float
    hours: float
    cost: float

    @property
    def bottleneck(self) -> Stage:
        """The stage that all others wait for."""
        return self.stages[0]


def reduction_s(num_bytes: float, workers: int, bytes_per_s: float, latency_s: float) -> float:
    """Time of a ring all-reduce (Patarasuk & Yuan 2009, sec. 3): 2 (W - 1) messages, each of 1/W of the bytes."""
    return 2 * (workers - 1) * (latency_s + num_bytes / workers / bytes_per_s)


def checkpoint_interval_s(write_s: float, mean_time_to_failure_s: float) -> float:
    """Training time from one checkpoint to the next that loses least (Young 1974; Daly 2006, eq. 37)."""
    if math.isinf(mean_time_to_failure_s):
        return math.inf
    if write_s >= 2 * mean_time_to_failure_s:
        return mean_time_to_failure_s
    ratio = write_s / (2 * mean_time_to_failure_s)
    interval = math.sqrt(2 * write_s * mean_time_to_failure_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9)
    return interval - write_s


def goodput(write_s: float, interval_s: float, restart_s: float, mean_time_to_failure_s: float) -> float:
    """Share of the time that trains, less writing, restarts and half an interval lost a failure (Young 1974)."""
    if math.isinf(interval_s):
        return 1.0
    written = interval_s / (interval_s + write_s)
    return max(0.0, written * (1 - (restart_s + interval_s / 2) / mean_time_to_failure_s))


def plan(work: Work, cluster: Cluster) -> Plan:
    """The whole calculation."""
    workers, reduced = cluster.workers, work.gradient_bytes * _reduced_weights(work)
    # A step shows `batch_size` new images to each of its discriminator steps.
    images = work.batch_size * work.discriminator_steps
    compute_s = work.local_batch * work.discriminator_steps / cluster.images_per_s
    reduce_s = reduction_s(reduced, workers, cluster.network_bytes_per_s, cluster.latency_s)
    step_rate = images / (compute_s + reduce_s)
    stages = [
        Stage("compute and reduction", step_rate, reduced * work.total_images / images * (workers > 1)),
        Stage(
            "host to device",
            workers * cluster.copy_bytes_per_s / work.image_bytes,
            work.total_images * work.image_bytes,
        ),
        _bucket(work, cluster),
    ]
    stages.sort(key=lambda stage: stage.images_per_s)
    rate = stages[0].images_per_s
    # Weights, two moments, and the generator's average, all float32.
    state_bytes = 4 * (4 * work.parameters[0] + 3 * work.parameters[1])
    write_s = state_bytes / cluster.bucket_bytes_per_s
    failures_per_s = workers * cluster.node_failures_per_day / 86400
    mean_s = 1 / failures_per_s if failures_per_s else math.inf
    interval_s = checkpoint_interval_s(write_s, mean_s)
    share = goodput(write_s, interval_s, cluster.restart_s, mean_s)
    hours = work.total_images / rate / 3600 / share if share else math.inf
    return Plan(
        stages=tuple(stages),
        images_per_s=rate,
        efficiency=rate / (workers * cluster.images_per_s),
        reduction_share=reduce_s / (compute_s + reduce_s),
        checkpoint_s=write_s,
        checkpoint_every_s=interval_s,
        goodput=share,
        hours=hours,
        cost=hours * workers * cluster.price_per_worker_h,
    )


def _reduced_weights(work: Work) -> int:
    """Whose gradients are summed in a step, those of each discriminator step anew."""
    return work.parameters[0] + work.parameters[1] * work.discriminator_steps


def _bucket(work: Work, cluster: Cluster) -> Stage:
    """Blocks that stay in memory are fetched once, the rest again in each epoch."""
    fetched = work.total_images
    if work.dataset_images is not None:
        kept = min(1.0, cluster.workers * work.memory_bytes / (work.dataset_images * work.image_bytes))
        epochs = work.total_images / work.dataset_images
        fetched = work.dataset_images * (min(1.0, epochs) + max(0.0, epochs - 1) * (1 - kept))
    raw = cluster.workers * cluster.bucket_bytes_per_s / work.image_bytes
    return Stage("bucket", raw * work.total_images / max(fetched, 1e-9), fetched * work.image_bytes)
