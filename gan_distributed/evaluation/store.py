"""Arrays that are computed once and kept: statistics of real images, fitted classifiers.

They lie beside the data set, in `evaluation/KIND-KEY/`, or with the run where the data set's folder cannot be written.
A key is the sha256 of all that decides the arrays. The index is written last and names the file by size and sha256.
"""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import storage
from gan_distributed.errors import AlreadyExistsError, GanError, MissingError

_INDEX = "index.json"
_FORMAT = 1
logger = logging.getLogger(__name__)
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Store:
    """Places for kept arrays, the best one first. Rank 0 calls it.

    places: folders, such as DATA/evaluation and RUN/evaluation.   say: prints a line for the user.
    """

    places: tuple[str, ...]
    say: Callable[[str], None]

    def load(self, kind: str, settings: Mapping[str, Any]) -> Arrays | None:
        """What was kept for these settings; None where there is nothing, or nothing that verifies."""
        for place in self.places:
            found = _read(_folder(place, kind, settings))
            if found is not None:
                return found
        return None

    def save(self, kind: str, settings: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep arrays in the first place that takes them; one that cannot be kept costs the next start its time."""
        for number, place in enumerate(self.places):
            try:
                _write(_folder(place, kind, settings), settings, arrays)
            except GanError as error:
                following = self.places[number + 1] if number + 1 < len(self.places) else "nowhere"
                self.say(f"{kind} cannot be kept in {place} ({error}); kept in {following}")
            else:
                return


def key_of_settings(settings: Mapping[str, Any]) -> str:
    """sha256 of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _folder(place: str, kind: str, settings: Mapping[str, Any]) -> str:
    return storage.join(place, f"{kind}-{key_of_settings(settings)[:16]}")


def _write(folder: str, settings: Mapping[str, Any], arrays: Arrays) -> None:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    data = file.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    # By its own digest: another writer's file is never overwritten.
    name = f"arrays-{sha256[:16]}.npz"
    storage.write(storage.join(folder, name), data)
    index = {"format": _FORMAT, "settings": settings, "name": name, "bytes": len(data), "sha256": sha256}
    url = storage.join(folder, _INDEX)
    try:
        storage.create(url, json.dumps(index, indent=1).encode())
    except AlreadyExistsError:
        if _read(folder) is None:
            # What is there is damaged.
            storage.write(url, json.dumps(index, indent=1).encode())


def _read(folder: str) -> Arrays | None:
    url = storage.join(folder, _INDEX)
    try:
        index = json.loads(storage.read_bytes(url))
        if index["format"] != _FORMAT:
            return None
        data = storage.read_bytes(storage.join(folder, index["name"]))
    except MissingError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s: damaged (%s); computed anew", url, error)
        return None
    if len(data) != index["bytes"] or hashlib.sha256(data).hexdigest() != index["sha256"]:
        logger.warning("%s: %s is not what the index names; computed anew", url, index["name"])
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
