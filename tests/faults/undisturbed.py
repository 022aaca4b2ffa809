"""The same job without Ray and without a disturbance, to compare with."""

from typing import Any

from gan_distributed.config import Config
from gan_distributed.data.manifest import load_manifest
from gan_distributed.training.link import Link
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.worker import Assignment, run_rank
from gan_distributed.training.world import World


def train_straight(world: World, config: Config, data: str, run_url: str) -> None:
    """What `run_ranks` calls on each rank."""
    fingerprint = load_manifest(data).fingerprint
    assignment = Assignment(config, data, run_url, "test", fingerprint, frozenset())
    run_rank(assignment, world, 1, Link(lambda line: None, lambda: False))


def assert_same_order(straight: str, run: str) -> list[dict[str, Any]]:
    """Both runs saw the same images at each tick; returns the records of `run`.

    An attempt that leaves writes a record of its own where it stood.
    """
    wanted, records = read_records(RunFolder(straight)), read_records(RunFolder(run))
    found = {record["seen_images"]: record["order_digest"] for record in records}
    assert max(found) == wanted[-1]["seen_images"]
    for record in wanted:
        assert found[record["seen_images"]] == record["order_digest"], record["seen_images"]
    return records
