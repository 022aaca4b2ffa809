"""Which metrics and features a configuration means for a data set; refused here, before anything is computed."""

from dataclasses import dataclass

from gan_distributed.config import ScoreConfig
from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest
from gan_distributed.errors import ConfigError, DataError
from gan_distributed.evaluation.protocol import METRICS

# Fewer images make no neighbourhoods, splits or held-out share.
_FEWEST = 16
_BUILT_IN = ("dataset", "inception")


@dataclass(frozen=True)
class Plan:
    """The metrics, the feature network's name (None where none is needed), and the parts that the metrics need."""

    metrics: tuple[str, ...]
    features: str | None
    parts: frozenset[str]


def plan(config: ScoreConfig, manifest: Manifest, url: str) -> Plan:
    """The metrics that a configuration means for the data set at a URL; raises InputError where they cannot be had."""
    has_classes = manifest.num_classes > 1
    features = features_of(config, manifest)
    metrics = tuple(config.metrics) or (("fid",) if features else ("swd",))
    if manifest.num_images < _FEWEST:
        raise DataError(f"{url}: scores need {_FEWEST} real images, the data set has {manifest.num_images}")
    needing = [metric for metric in metrics if METRICS[metric].parts != {"slices"}]
    if needing and (features is None or (features == "dataset" and not has_classes)):
        raise DataError(
            f"{url}: {needing[0]} with features `dataset` needs labels of two or more classes, the data set has "
            f"{manifest.num_classes}; give score.features inception or a file, or score.metrics swd"
        )
    modes = [metric for metric in metrics if metric.startswith("modes")]
    if modes and features != "dataset":
        raise ConfigError(
            f"score.metrics {modes[0]} counts the data set's classes: it needs score.features dataset, not {features}"
        )
    parts: frozenset[str] = frozenset().union(*(METRICS[metric].parts for metric in metrics))
    return Plan(metrics, features if needing else None, parts)


def features_of(config: ScoreConfig, manifest: Manifest) -> str | None:
    """The name of the feature network that is meant for a data set; None without one."""
    return config.features or ("dataset" if manifest.num_classes > 1 else None)


def with_absolute_files(config: ScoreConfig) -> ScoreConfig:
    """The same files wherever a worker's working directory is."""
    files = {"features": config.features, "weights": config.weights}
    return config.model_copy(
        update={name: storage.absolute(url) for name, url in files.items() if url is not None and url not in _BUILT_IN}
    )
