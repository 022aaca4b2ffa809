"""What Ray is given of the configuration, without a cluster: the rest is in test_train_ray.py and tests/faults."""

from gan_distributed.config import load_config
from gan_distributed.training.cluster import _trainer
from gan_distributed.training.layout import Layout
from gan_distributed.training.worker import Assignment


def test_the_collective_timeout_is_ours(tmp_path):
    config = load_config(None, {"cluster.collective_timeout_s": 501})
    assignment = Assignment(config, "data", "run", "owner", "fingerprint", frozenset())
    trainer = _trainer(assignment, Layout((2, 2), False, 1), str(tmp_path), None)
    assert trainer.backend_config.timeout_s == 501
