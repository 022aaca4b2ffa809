"""The whole job, small: submitted to a cluster, with bucket and Prometheus, a node drained, to DONE and pictures."""

import pytest
from end_to_end import Size, Steps, everything

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")
SMALL = Size(
    {
        "model.generator_channels": 4,
        "model.discriminator_channels": 4,
        "model.latent_dim": 4,
        "loss.r1_gamma": 0,
        "training.precision": "float32",
        "training.tick_kimg": 1.28,
        "checkpoint.every_kimg": 5.12,
        "samples.every_kimg": 10.24,
        "samples.num": 4,
        "score.every_kimg": 5.12,
        "score.num_images": 16,
    },
    more_kimg=1.28,
    num_scored=64,
    is_installed=False,
)


@pytest.mark.timeout(2400)
def test_submitted_scraped_drained_stopped_resumed_and_used():
    steps = Steps()
    everything(SMALL, steps)
    print(steps.table())
