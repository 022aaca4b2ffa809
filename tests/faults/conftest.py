"""One head for all tests of faults, since starting Ray takes longer than most of them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from datasets import write_dataset
from nodes import Nodes, nodes


@pytest.fixture(scope="package")
def head() -> Iterator[Nodes]:
    # So long that the notice is read in time on a busy machine, too.
    with nodes(drain_s=40) as found:
        yield found


@pytest.fixture
def cluster(head: Nodes) -> Iterator[Nodes]:
    """A cluster without nodes; those that a test adds end with it."""
    yield head
    head.clear()


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_dataset(str(tmp_path / "data"))
    return str(tmp_path / "data")
