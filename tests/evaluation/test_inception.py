"""The FID network against torch-fidelity's own module, with the same random weights, by names, features and FID."""

import functools
import hashlib
import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from gan_distributed.config import ScoreConfig
from gan_distributed.errors import InputError
from gan_distributed.evaluation.inception import FEATURES, Inception
from gan_distributed.evaluation.networks import open_network
from gan_distributed.evaluation.scores import Moments, frechet_distance
from gan_distributed.evaluation.store import Store
from gan_distributed.training.world import World


def random_weights() -> dict[str, torch.Tensor]:
    """Weights that keep the signal alive through 48 layers, with statistics that are not 0 and 1."""
    draw = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Inception().state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        normal = torch.randn(shape, generator=draw)
        if name.endswith("num_batches_tracked"):
            continue
        if len(shape) > 1:
            weights[name] = normal * (2 / shape[1:].numel()) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            weights[name] = 1 + 0.1 * normal.abs()
        else:
            weights[name] = 0.1 * normal
    return weights


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """As the well-known file: plain tensors by name, without counts of batches."""
    path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(random_weights(), path)
    return path


@pytest.fixture(scope="module")
def theirs(file):
    return FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file))


def opened(path, sha256: str | None = None):
    config = ScoreConfig(weights=str(path), weights_sha256=sha256)
    return open_network("inception", config, "", None, World(), Store((), print))


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def images(num: int, seed: int, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_names_and_shapes_are_those_of_the_fid_weights(theirs):
    with torch.device("meta"):
        ours = {name: tensor.shape for name, tensor in Inception().state_dict().items()}
    assert ours == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


def test_features_logits_and_fid_are_those_of_torch_fidelity(file, theirs):
    network = opened(file, digest(file)[:8])
    assert (network.sha256, network.resizer) == (digest(file), "bilinear of TensorFlow 1 to 299")
    found, wanted = [], []
    for seed, low in ((0, 0), (1, 60)):
        batch = images(3, seed).clamp_min(low)
        features, logits = network(batch.permute(0, 2, 3, 1))
        their_features, their_logits = theirs(batch)
        assert features.shape == (3, FEATURES)
        assert their_features.std() > 0.01
        torch.testing.assert_close(features, their_features, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, their_logits, rtol=1e-3, atol=1e-3)
        # Some dimensions only: the reference takes the eigenvalues of a matrix that is not symmetric.
        features, their_features = features[:, :200].double(), their_features[:, :200].double()
        found.append(Moments(3, features.sum(0), features.T @ features))
        wanted.append(fid_features_to_statistics(their_features))
    theirs_says = fid_statistics_to_metric(*wanted, verbose=False)["frechet_inception_distance"]
    assert theirs_says > 0.1
    assert frechet_distance(*found) == pytest.approx(theirs_says, abs=1e-3)


@pytest.mark.slow
def test_fid_is_that_of_the_whole_program(file, tmp_path):
    """Through torch-fidelity's front door, PNG files and all 2048 dimensions."""
    import torch_fidelity
    from PIL import Image

    network, moments = opened(file, digest(file)), []
    for name, low in (("real", 0), ("fake", 60)):
        (tmp_path / name).mkdir()
        batch = images(40, low, 28).clamp_min(low)
        for index, image in enumerate(batch.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(tmp_path / name / f"{index:02d}.png")
        features = network(batch.permute(0, 2, 3, 1))[0].double()
        moments.append(Moments(40, features.sum(0), features.T @ features))
    wanted = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "real"),
        input2=str(tmp_path / "fake"),
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(file),
    )["frechet_inception_distance"]
    assert frechet_distance(*moments) == pytest.approx(wanted, abs=1e-3)


def test_grey_images_are_repeated(file):
    network = opened(file, digest(file))
    grey = images(1, 3)[:, :1]
    assert torch.equal(network(grey.permute(0, 2, 3, 1))[0], network(grey.expand(-1, 3, -1, -1).permute(0, 2, 3, 1))[0])


def test_wrong_weights_are_told_in_a_line(file, tmp_path):
    other = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(2)}, other)
    (tmp_path / "other.pth").write_bytes(other.getvalue())
    (tmp_path / "text.pth").write_bytes(b"not weights")
    cases = {
        f"sha256 is {digest(file)[:12]}, 00000000 is wanted": (file, "00000000"),
        "not weights of the FID Inception network": (tmp_path / "other.pth", digest(tmp_path / "other.pth")),
        "text.pth: not weights": (tmp_path / "text.pth", digest(tmp_path / "text.pth")),
        "give score.weights_sha256": (file, None),
        "put the file where this job can read it": (tmp_path / "absent.pth", "00000000"),
    }
    for told, (path, sha256) in cases.items():
        with pytest.raises(InputError) as caught:
            opened(path, sha256)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
    # The published file's name holds the start of its sha256.
    named = tmp_path / f"weights-{digest(file)[:8]}.pth"
    named.write_bytes(file.read_bytes())
    assert opened(named).sha256 == digest(file)


def test_weights_of_the_web_are_kept_where_a_resume_finds_them(file, tmp_path):
    name = f"weights-{digest(file)[:8]}.pth"
    (tmp_path / name).write_bytes(file.read_bytes())
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        config = ScoreConfig(weights=f"http://127.0.0.1:{server.server_port}/{name}")
        store = Store((str(tmp_path / "kept"),), print)
        first = open_network("inception", config, "", None, World(), store)
        server.shutdown()
        thread.join()
    assert first.sha256 == digest(file)
    assert open_network("inception", config, "", None, World(), store).sha256 == first.sha256


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""
