"""What all tests share: one thread for torch, and small prepared data sets."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# Ray's own 15 lets its workers wait for every other test.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """More threads than cores make small networks slower by far."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
