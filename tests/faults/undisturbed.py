"""The same job without Ray and without a disturbance, to compare with."""

from gan_distributed.config import Config
from gan_distributed.data.manifest import load_manifest
from gan_distributed.training.link import Link
from gan_distributed.training.worker import Assignment, run_rank
from gan_distributed.training.world import World


def train_straight(world: World, config: Config, data: str, run_url: str) -> None:
    """What `run_ranks` calls on each rank."""
    fingerprint = load_manifest(data).fingerprint
    assignment = Assignment(config, data, run_url, "test", fingerprint, frozenset())
    run_rank(assignment, world, 1, Link(lambda line: None, lambda: False))
