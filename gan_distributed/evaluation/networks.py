"""Feature networks: which one the configuration means, its weights checked, and how images are given to it."""

import contextlib
import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gan_distributed.config import ScoreConfig
from gan_distributed.data import storage
from gan_distributed.data.blocks import read_blocks
from gan_distributed.data.manifest import Manifest
from gan_distributed.errors import ConfigError, DataError, GanError, InputError
from gan_distributed.evaluation.classifier import FitSettings, Fitted, empty_classifier, fit, resizer
from gan_distributed.evaluation.inception import Inception
from gan_distributed.evaluation.ranks import Ranks
from gan_distributed.evaluation.store import Arrays, Store
from gan_distributed.randomness import key_of, permutation

# The accuracy of a fitted classifier lies beside its weights under this name.
_ACCURACY = "held-out accuracy"


@dataclass(frozen=True)
class FeatureNetwork:
    """A network on its device, and what a protocol says of it.

    module: uint8 [N, C, H, W] to features, float [N, D], or to a pair of these and logits, float [N, K].
    channels: what the module takes; grey images are repeated.   accuracy: of a classifier fitted here.
    """

    name: str
    sha256: str
    resizer: str
    module: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    channels: int
    accuracy: float | None = None

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features, float32 [N, D], and logits, float32 [N, K] or None, of rows, uint8 [N, H, W, C]."""
        images = rows.permute(0, 3, 1, 2)
        if images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        try:
            found = self.module(images.contiguous())
            features, logits = found if isinstance(found, tuple | list) else (found, None)
            if features.ndim != 2 or len(features) != len(rows):
                raise ValueError(f"gave {tuple(features.shape)} for {len(rows)} images")
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
            raise InputError(
                f"features {self.name}: {_first_line(error)}; its module must take uint8 [N, 3, H, W] for any N, "
                "and return features [N, D], or a pair of these and logits [N, K]"
            ) from error
        return features.float(), None if logits is None else logits.float()


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Convolutions in whole float32 and by fixed algorithms, so that features do not change from run to run."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def open_network(
    name: str,
    config: ScoreConfig,
    data_url: str,
    manifest: Manifest,
    ranks: Ranks,
    store: Store,
    only_kept: bool = False,
) -> FeatureNetwork:
    """The network of a name (dataset, inception or a file's URL); every rank calls it, rank 0 reads or fits.

    only_kept: neither fit one nor fetch weights from the web.
    Raises InputError where weights are missing, damaged, or not those of their sha256.
    """
    if name == "dataset":
        return _dataset_network(data_url, manifest, ranks, store, only_kept)
    if name == "inception":
        return _inception(config, ranks, store, only_kept)
    data, sha256 = ranks.on_rank_zero(lambda: _read_checked(name, config.weights_sha256))
    module = _load_module(name, data, ranks.device)
    return FeatureNetwork(name.rsplit("/", 1)[-1], sha256, "in the file", module, 3)


def _inception(config: ScoreConfig, ranks: Ranks, store: Store, only_kept: bool) -> FeatureNetwork:
    url = config.weights
    if url is None:
        raise ConfigError("score.features inception needs score.weights, the URL of its weights")
    named = re.search(r"-([0-9a-f]{8,64})\.\w+$", url)
    wanted = config.weights_sha256 or (named[1] if named else None)
    if wanted is None:
        raise ConfigError(f"score.weights {url}: give score.weights_sha256, so that the file can be checked")
    data, sha256 = ranks.on_rank_zero(lambda: _read_kept(url, wanted, store, only_kept))
    with torch.device("meta"):
        network = Inception()
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        network.load_state_dict(weights, assign=True)
    except Exception as error:
        # The unpickler has errors of its own; which class they are is no part of torch's interface.
        raise InputError(
            f"{url}: not weights of the FID Inception network ({_first_line(error)}); give those of "
            "pt_inception-2015-12-05"
        ) from error
    module = network.float().to(ranks.device).eval().requires_grad_(requires_grad=False)
    return FeatureNetwork("inception", sha256, "bilinear of TensorFlow 1 to 299", module, 3)


def _read_kept(url: str, wanted: str, store: Store, only_kept: bool) -> tuple[bytes, str]:
    """As `_read_checked`; what comes from the web is kept, so that a run resumes when the web is away. Rank 0."""
    if storage.protocol(url) not in ("http", "https"):
        return _read_checked(url, wanted)
    settings = {"sha256": wanted}
    kept = store.load("weights", settings)
    if kept is not None:
        data = kept["bytes"].tobytes()
        return data, hashlib.sha256(data).hexdigest()
    _check_may_be_made(only_kept, "weights of features inception")
    data, sha256 = _read_checked(url, wanted)
    store.save("weights", settings, {"bytes": np.frombuffer(data, np.uint8)})
    return data, sha256


def _read_checked(url: str, wanted: str | None) -> tuple[bytes, str]:
    """A file's bytes and their sha256. Rank 0."""
    try:
        data = storage.read_bytes(url)
    except GanError as error:
        raise InputError(f"weights of the features: {error}; put the file where this job can read it") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if wanted is not None and not sha256.startswith(wanted):
        raise InputError(f"{url}: sha256 is {sha256[: max(12, len(wanted))]}, {wanted} is wanted; fetch the file again")
    return data, sha256


def _load_module(url: str, data: bytes, device: torch.device) -> nn.Module:
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        if any("/code/" in name for name in names):
            with warnings.catch_warnings():
                # Deprecated, and the form in which known feature networks are published.
                warnings.simplefilter("ignore", FutureWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                script: nn.Module = torch.jit.load(io.BytesIO(data), map_location=device)  # type: ignore[no-untyped-call]
            return script.eval()
        program = torch.export.load(io.BytesIO(data))
        return program.module().to(device)
    except Exception as error:
        # Three libraries read the bytes of a user's file here, with errors of their own.
        raise InputError(
            f"{url}: neither a torch.export nor a TorchScript file ({_first_line(error)}); save it as one of these"
        ) from error


def _dataset_network(data_url: str, manifest: Manifest, ranks: Ranks, store: Store, only_kept: bool) -> FeatureNetwork:
    settings = FitSettings()
    identity = {"dataset": manifest.fingerprint, **asdict(settings), "version": 1}

    def load_or_fit() -> Arrays:
        kept = store.load("classifier", identity)
        if kept is not None:
            return kept
        _check_may_be_made(only_kept, "classifier for features dataset")
        rows, labels = _labelled_images(data_url, manifest, settings.max_images)
        store.say(f"features: fitting the classifier of this data set on {len(rows)} images, once")
        with torch.inference_mode(mode=False), torch.enable_grad(), exactly():
            fitted: Fitted = fit(rows, labels, manifest.num_classes, settings, ranks.device)
        store.say(f"features: the classifier tells {fitted.accuracy:.1%} of held-out images right")
        arrays: Arrays = {**fitted.weights, _ACCURACY: np.array(fitted.accuracy)}
        store.save("classifier", identity, arrays)
        # Of runs that fit at the same time one is kept, and all take that one: else their scores would not compare.
        return store.load("classifier", identity) or arrays

    arrays = dict(ranks.on_rank_zero(load_or_fit))
    accuracy = float(arrays.pop(_ACCURACY))
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    network = empty_classifier(manifest.channels, manifest.num_classes)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    module = network.to(ranks.device).eval().requires_grad_(requires_grad=False)
    return FeatureNetwork("dataset", digest.hexdigest(), resizer(manifest.height), module, manifest.channels, accuracy)


def _check_may_be_made(only_kept: bool, what: str) -> None:
    if only_kept:
        raise InputError(f"no {what} is kept beside the data or the run; `gan-distributed evaluate` makes it")


def _labelled_images(url: str, manifest: Manifest, max_images: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """At most so many images, drawn without repetition, with their labels, in the data set's order."""
    is_chosen = np.zeros(manifest.num_images, bool)
    is_chosen[permutation(key_of("classifier", "images"), manifest.num_images)[:max_images]] = True
    rows, labels = [], []
    for block in read_blocks(url, manifest, range(len(manifest.block_lengths))):
        if block.labels is None:
            raise DataError(f"{url}: features `dataset` need labels; use score.features inception, or the metric swd")
        chosen = is_chosen[block.first : block.first + len(block.rows)]
        rows.append(block.rows[chosen])
        labels.append(block.labels[chosen])
    return np.concatenate(rows), np.concatenate(labels)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
