"""What a run's data set says of itself: its manifest, and what was refused when it was prepared."""

import json
from collections import Counter
from dataclasses import dataclass

from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest, load_manifest
from gan_distributed.errors import GanError, InputError
from gan_distributed.reporting.reading import Run

_MOST_BYTES = 4 << 20
_MOST_REASONS = 8


@dataclass(frozen=True)
class Refused:
    """Images of one reason: how many, and the name of one of them."""

    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class DataSet:
    """A data set that can be read. refused: the commonest reasons.   num_more: refused images for other reasons."""

    url: str
    manifest: Manifest
    refused: list[Refused]
    num_more: int


def open_dataset(run: Run, data: str | None) -> DataSet:
    """The data set that a run was started with. data: where it is now. Raises GanError where it is not there."""
    url = data or run.config.data.url
    if url is None:
        raise InputError("the run's configuration names no data set; give --data URL")
    url = storage.absolute(url)
    recorded = run.config.recorded
    manifest = load_manifest(url, recorded.dataset if recorded else None)
    counts, examples = _refused(url)
    reasons = [Refused(reason, count, examples[reason]) for reason, count in counts.most_common(_MOST_REASONS)]
    return DataSet(url, manifest, reasons, manifest.num_quarantined - sum(one.count for one in reasons))


def _refused(url: str) -> tuple[Counter[str], dict[str, str]]:
    """Reasons with their numbers, and a name for each; of a very long list the start, without damaged lines."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for line in _lines(url):
        try:
            record = json.loads(line)
            name, reason = str(record["name"]), str(record["reason"])
        except (ValueError, KeyError, TypeError):
            continue
        counts[reason] += 1
        examples.setdefault(reason, name)
    return counts, examples


def _lines(url: str) -> list[str]:
    # Where images were added there are several lists; the longest names all that the others do.
    names = [name for name in storage.names(url) if name.startswith("quarantine") and name.endswith(".jsonl")]
    sizes = {name: storage.size(storage.join(url, name)) or 0 for name in names}
    if not any(sizes.values()):
        return []
    longest = max(sizes, key=lambda name: sizes[name])
    try:
        data = storage.read_range(storage.join(url, longest), 0, min(sizes[longest], _MOST_BYTES))
    except GanError:
        return []
    return data.decode(errors="replace").splitlines()
