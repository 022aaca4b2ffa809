"""What a score is: a number and all that decides it. Scores of different protocols are never compared."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gan_distributed.errors import InputError

# Raised whenever the same images would give another number.
PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Metric:
    """One kind of score.

    lower_is_better: which way is better.   parts: what must be known of the images (see `collection`).
    settings: constants of the formula, for the record.
    """

    lower_is_better: bool
    parts: frozenset[str]
    settings: dict[str, Any]


KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBORS_OF_MANIFOLD, NEIGHBORS_OF_COVERAGE = 3, 5
INCEPTION_SPLITS = 10
SWD_DIRECTIONS, SWD_PATCHES, SWD_PATCH_SIZE, SWD_SMALLEST_LEVEL = 64, 4, 7, 16

_MANIFOLD = {"neighbors": NEIGHBORS_OF_MANIFOLD}
_COVERAGE = {"neighbors": NEIGHBORS_OF_COVERAGE}
_KID = {"kernel": "(x.y / d + 1)^3", "subsets": KID_SUBSETS, "subset_size": KID_SUBSET_SIZE}
_SWD = {
    "directions": SWD_DIRECTIONS,
    "patches": SWD_PATCHES,
    "patch_size": SWD_PATCH_SIZE,
    "smallest_level": SWD_SMALLEST_LEVEL,
}

METRICS = {
    "fid": Metric(True, frozenset({"moments"}), {}),
    "kid": Metric(True, frozenset({"features"}), _KID),
    "precision": Metric(False, frozenset({"features"}), _MANIFOLD),
    "recall": Metric(False, frozenset({"features"}), _MANIFOLD),
    "density": Metric(False, frozenset({"features"}), _COVERAGE),
    "coverage": Metric(False, frozenset({"features"}), _COVERAGE),
    "inception_score": Metric(False, frozenset({"logits"}), {"splits": INCEPTION_SPLITS}),
    "swd": Metric(True, frozenset({"slices"}), _SWD),
    "modes": Metric(False, frozenset({"logits"}), {}),
    "modes_kl": Metric(True, frozenset({"logits"}), {}),
}


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a score beside the weights of the generator.

    dataset: fingerprint of the data set; split: the part of it that was read.   flips: whether mirrored real images
    count as well.   resized: how the data set's images came to their size.   features, features_sha256: the network
    and its weights, None where the metric needs none; resizer: what brings images to the network's size; precision:
    of features.   fakes: how generated images are kept before features.   generator: ema or raw weights.
    truncation: of latents, None without.   labels: how classes of generated images are drawn.
    """

    version: int
    metric: str
    settings: dict[str, Any]
    num_fake: int
    num_real: int
    dataset: str
    split: str
    flips: bool
    resolution: int
    channels: int
    resized: str
    features: str | None
    features_sha256: str | None
    resizer: str
    precision: str
    fakes: str
    generator: str
    truncation: float | None
    labels: str
    seed: int

    @property
    def digest(self) -> str:
        """sha256 of all fields; scores compare where it is equal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Score:
    """One number with its spread (or None), the generator's age, its protocol, and what else came out."""

    metric: str
    value: float
    spread: float | None
    seen_images: int
    protocol: Protocol
    details: dict[str, Any]

    def to_record(self) -> dict[str, Any]:
        """The JSON object of scores/….jsonl."""
        return {**asdict(self), "kimg": self.seen_images / 1000, "protocol_digest": self.protocol.digest}


def check_comparable(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Refuse two records of different protocols with InputError, naming the fields that differ."""
    if one["protocol"] == other["protocol"]:
        return
    fields = sorted(one["protocol"].keys() | other["protocol"].keys())
    told = [
        f"{field} {_short(one['protocol'].get(field))} and {_short(other['protocol'].get(field))}"
        for field in fields
        if one["protocol"].get(field) != other["protocol"].get(field)
    ]
    raise InputError(
        f"{one['metric']} was taken by two protocols, which do not compare: {'; '.join(told)}; "
        "evaluate both the same way"
    )


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a value of a metric is better than another one; not a number never is."""
    return value < than if METRICS[metric].lower_is_better else value > than


def best_record(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best of some records of one metric, by images seen; of those whose protocol is that of the last one.

    records: at least one.
    """
    best = newest = records[-1]
    for record in records:
        same = record["protocol_digest"] == newest["protocol_digest"]
        if same and is_better(record["metric"], record["value"], best["value"]):
            best = record
    return best


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "…"
