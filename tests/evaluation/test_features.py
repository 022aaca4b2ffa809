"""What is collected of real images is what the rows themselves give, an image at a time."""

import numpy as np
import pytest
import torch
from datasets import blobs, write_dataset

from gan_distributed.evaluation.features import Collector, add_batches, widths_of
from gan_distributed.evaluation.networks import FeatureNetwork
from gan_distributed.evaluation.reference import RealImages, open_reference
from gan_distributed.evaluation.slices import Slices
from gan_distributed.evaluation.store import Store
from gan_distributed.training.world import World


def quarters(images: torch.Tensor) -> torch.Tensor:
    """Four features: the mean of each quarter of an image."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


def by_hand(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), 2, 16, 2, 16).mean((2, 4)).reshape(len(rows), 4)


@pytest.mark.parametrize("size", [1, 3])
def test_moments_and_kept_images(tmp_path, size):
    manifest = write_dataset(str(tmp_path), num=300)
    rows, _ = blobs(300)
    network, slices = FeatureNetwork("quarters", "0", "none", quarters, 1), Slices(32, 1)
    images = RealImages(str(tmp_path), manifest, 50, seed=1)
    widths = widths_of(network, slices, torch.zeros(1, 32, 32, 1, dtype=torch.uint8))
    parts = frozenset({"moments", "features", "slices"})
    # Each rank's share alone; together they are the whole.
    found = []
    for rank in range(size):
        collector = Collector(parts, network, slices, widths, 50, World())
        add_batches(collector, images.batches(World(rank=rank, size=size)), torch.device("cpu"))
        found.append(collector.finish())
    features = by_hand(rows)
    assert sum(one.moments.count for one in found) == 300
    assert sum(one.moments.total for one in found).numpy() == pytest.approx(features.sum(0), rel=1e-5)
    assert sum(one.moments.outer for one in found).numpy() == pytest.approx(features.T @ features, rel=1e-5)
    small = rows[:, :, :, 0].reshape(300, 8, 4, 8, 4).mean((2, 4)).reshape(300, 64)
    thumbnails = sum(one.thumbnails for one in found).numpy()
    places = [int(np.abs(small - row).sum(1).argmin()) for row in thumbnails]
    assert thumbnails == pytest.approx(small[places], rel=1e-5)
    # Fifty images, none twice, in the data set's order.
    assert places == sorted(set(places))
    assert len(places) == 50
    assert sum(one.features for one in found).numpy() == pytest.approx(features[places], rel=1e-5)
    wanted = slices(torch.from_numpy(rows[places]).permute(0, 3, 1, 2), torch.arange(50))
    torch.testing.assert_close(sum(one.slices for one in found), wanted)


def test_another_network_or_data_set_has_statistics_of_its_own(tmp_path):
    store, said = Store((str(tmp_path / "kept"),), lambda line: said.append(line)), []

    def opened(name: str, sha256: str, num: int) -> float:
        manifest = write_dataset(str(tmp_path / name), num=num)
        network = FeatureNetwork("quarters", sha256, "none", quarters, 1)
        images = RealImages(str(tmp_path / name), manifest, 20, 0)
        widths = widths_of(network, None, torch.zeros(1, 32, 32, 1, dtype=torch.uint8))
        reference = open_reference(images, frozenset({"moments"}), network, None, widths, World(), store)
        assert reference.moments is not None
        return reference.moments.count

    assert [opened("a", "0", 100), opened("a", "0", 100), opened("a", "1", 100), opened("b", "0", 120)] == [
        100,
        100,
        100,
        120,
    ]
    assert said == [
        "scores: statistics of 100 real images (moments, duplicates), once",
        "scores: statistics of 100 real images (moments), once",
        "scores: statistics of 120 real images (moments, duplicates), once",
    ]
