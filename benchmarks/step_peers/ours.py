"""Our whole loop in this process: stream, digest, latents, step, average, statistics; with a run's folder also metrics
over HTTP, ticks, records and checkpoints. Also its step alone.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gan_distributed.config import Config, load_config
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.order import Order, rank_positions
from gan_distributed.data.stream import Stream
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training import lease
from gan_distributed.training.archive import Archive
from gan_distributed.training.checkpoint_writer import CheckpointWriter
from gan_distributed.training.feed import valid_batches
from gan_distributed.training.link import Link
from gan_distributed.training.loop import Loop
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.records import Recorder
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.saving import Scribe
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World


def example_config(batch_size: int, latent_dim: int, width: int, precision: str, **more: object) -> Config:
    """The recipe of the example's networks and constants."""
    values: dict[str, object] = {
        "model.family": "dcgan",
        "model.latent_dim": latent_dim,
        "model.generator_channels": width,
        "model.discriminator_channels": width,
        "optimizer.generator.lr": 2e-4,
        "optimizer.discriminator.lr": 2e-4,
        "optimizer.generator.beta1": 0.5,
        "optimizer.discriminator.beta1": 0.5,
        "training.batch_size": batch_size,
        "training.precision": precision,
        "training.fresh_latents": False,
        "training.total_kimg": 1e9,
        "samples.every_kimg": None,
        "metrics.host": "127.0.0.1",
        "metrics.port": 0,
    }
    return load_config(None, values | {key.replace("__", "."): value for key, value in more.items()})


def our_step(config: Config, images: ImageSpec, rows: Tensor, world: World | None = None) -> Callable[[], object]:
    """A function that takes one step on this rank's rows, all of class 0. rows: uint8 [N, H, W, C], on their device."""
    world = world or World(device=rows.device)
    state = TrainState(config, images, world)
    step, labels = Step(config, state, world), torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    size, lanes = config.training.batch_size, config.data.num_lanes
    places = torch.from_numpy(rank_positions(0, size, lanes, world.rank, world.size)).to(rows.device)
    return lambda: step([DeviceBatch(rows, labels, places + state.seen_images)], stop=False)


@contextlib.contextmanager
def our_loop(config: Config, url: str, run_url: str | None, world: World | None = None) -> Iterator[Callable[[], None]]:
    """A function that takes one turn. run_url: where the run's folder is to be, None for none of what needs it.

    Every rank of a world calls it, and its turns together with the others.
    """
    world = world or World()
    manifest = load_manifest(url)
    images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
    state = TrainState(config, images, world)
    order = Order(manifest.block_lengths, config.seed, config.data.num_lanes, config.data.window_blocks)
    batches = valid_batches(config, world)
    with contextlib.ExitStack() as stack:
        stream = Stream(
            url, manifest, order, config.data, config.training.batch_size, world.rank, world.size, valid_batches=batches
        )
        stack.enter_context(contextlib.closing(stream))
        settings = config.metrics if run_url is not None else config.metrics.model_copy(update={"port": None})
        metrics = WorkerMetrics(settings, "benchmark", world.rank, world.local_rank)
        stack.enter_context(contextlib.closing(metrics))
        scribe = None
        if run_url is not None and world.rank == 0:
            run = RunFolder(run_url)
            held = lease.acquire(run, "benchmark")
            stack.callback(held.release)
            recorder = Recorder(run, held.attempt)
            archive = Archive(config, run, images, manifest.class_names or (), recorder, held, _nobody)
            writer = CheckpointWriter(archive.commit, archive.tidy, config.checkpoint.write_timeout_s)
            stack.callback(writer.close)
            scribe = Scribe(run, held.attempt, held.check_known, writer, recorder, _nobody)
        stream.start(0)
        loop = Loop(config, world, state, stream, metrics, Link(_nobody, lambda: False), scribe, None)
        stack.callback(loop.close)
        yield loop.turn


def _nobody(_told: object) -> None:
    """Lines of progress are made, and not printed."""
