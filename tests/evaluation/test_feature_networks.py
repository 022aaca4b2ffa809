"""Feature networks from files, and the classifier that is fitted on a data set's labels."""

import io
import warnings

import numpy as np
import pytest
import torch
from datasets import blobs, write_dataset

from gan_distributed.config import ScoreConfig
from gan_distributed.errors import InputError
from gan_distributed.evaluation import networks
from gan_distributed.evaluation.classifier import FitSettings, fit
from gan_distributed.evaluation.networks import open_network
from gan_distributed.evaluation.store import Store
from gan_distributed.training.world import World

QUICK = FitSettings(min_shown=1500)


class Means(torch.nn.Module):
    """Features that can be computed by hand: the mean of each channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((2, 3))


class Whole(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()


def script(module: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def exported(module: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    example = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), file)
    return file.getvalue()


def opened(url: object, sha256: str | None = None):
    return open_network(str(url), ScoreConfig(weights_sha256=sha256), "", None, World(), Store((), print))


@pytest.mark.parametrize("encode", [script, exported])
def test_a_file_of_a_module_gives_its_features(tmp_path, encode):
    (tmp_path / "means.pt2").write_bytes(encode(Means()))
    network = opened(tmp_path / "means.pt2")
    rows = torch.randint(0, 256, (7, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features, logits = network(rows)
    torch.testing.assert_close(features, rows.float().mean((1, 2)))
    assert logits is None
    assert (network.name, network.resizer, len(network.sha256)) == ("means.pt2", "in the file", 64)


def test_files_that_do_not_fit_are_told_in_a_line(tmp_path):
    (tmp_path / "text.pt").write_bytes(b"no module")
    (tmp_path / "whole.pt").write_bytes(script(Whole()))
    rows = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    cases = {
        "neither a torch.export nor a TorchScript file": lambda: opened(tmp_path / "text.pt"),
        "gave (2, 3, 32, 32) for 2 images": lambda: opened(tmp_path / "whole.pt")(rows),
        "is wanted; fetch the file again": lambda: opened(tmp_path / "whole.pt", "00000000"),
        "put the file where this job can read it": lambda: opened(tmp_path / "absent.pt"),
    }
    for told, action in cases.items():
        with pytest.raises(InputError) as caught:
            action()
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_classifier_learns_the_labels_and_is_the_same_again():
    rows, labels = blobs(300)
    assert fit(rows, labels, 3, FitSettings(min_shown=5000), torch.device("cpu")).accuracy > 0.9
    fitted, again = (fit(rows, labels, 3, QUICK, torch.device("cpu")) for _ in range(2))
    assert {name: array.tobytes() for name, array in fitted.weights.items()} == {
        name: array.tobytes() for name, array in again.weights.items()
    }
    # Labels that say nothing cannot be learned.
    shuffled = np.random.default_rng(0).permutation(labels)
    assert fit(rows, shuffled, 3, QUICK, torch.device("cpu")).accuracy < 0.7


def test_dataset_features_are_fitted_once_and_tell_the_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "FitSettings", lambda: QUICK)
    manifest = write_dataset(str(tmp_path / "data"))
    said = []
    store = Store((str(tmp_path / "kept"),), said.append)
    first, again = (
        open_network("dataset", ScoreConfig(), str(tmp_path / "data"), manifest, World(), store) for _ in range(2)
    )
    assert said == [
        "features: fitting the classifier of this data set on 300 images, once",
        f"features: the classifier tells {first.accuracy:.1%} of held-out images right",
    ]
    assert (first.sha256, first.accuracy) == (again.sha256, again.accuracy)
    rows, labels = blobs(50, seed=9)
    features, logits = again(torch.from_numpy(rows))
    assert features.shape == (50, 128)
    assert logits is not None
    assert (logits.argmax(1).numpy() == labels).mean() > 0.5
    other = open_network("dataset", ScoreConfig(), str(tmp_path / "data"), manifest, World(), Store((), print))
    assert other.sha256 == first.sha256
