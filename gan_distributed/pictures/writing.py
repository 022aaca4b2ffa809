"""Writes pictures side by side in time, as many at once as fit a bounded memory, and tells how far it is."""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gan_distributed import __version__
from gan_distributed.data import storage
from gan_distributed.pictures.subjects import Subject, name_of
from gan_distributed.training.samples import Rows, encode_png
from gan_distributed.training.trained import Trained

MANIFEST_FORMAT = 1
# A bucket answers after tens of milliseconds, a disk syncs after some: both while others go on.
_THREADS = min(32, 4 * (os.cpu_count() or 1))
_MOST_WAITING = 4 * _THREADS
_TELL_EVERY_S = 5.0


def write_pictures(
    made: Iterable[tuple[Subject, Rows]],
    url_of: Callable[[Subject], str],
    num: int,
    say: Callable[[str], None],
) -> Iterator[tuple[Subject, str, str]]:
    """Write each as a PNG file; yields subject, URL and sha256 once a file is there, in order. Raises StorageError."""
    waiting: deque[tuple[Subject, str, Future[str]]] = deque()
    started = told = time.monotonic()
    done = 0
    with ThreadPoolExecutor(_THREADS, "pictures") as pool:
        try:
            for subject, row in made:
                url = url_of(subject)
                waiting.append((subject, url, pool.submit(_write, url, row)))
                while waiting and (len(waiting) >= _MOST_WAITING or waiting[0][2].done()):
                    yield _written(waiting)
                    done += 1
                if time.monotonic() - told > _TELL_EVERY_S:
                    told = time.monotonic()
                    say(f"{done}/{num} images, {done / (told - started):.0f}/s")
            while waiting:
                yield _written(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _written(waiting: "deque[tuple[Subject, str, Future[str]]]") -> tuple[Subject, str, str]:
    subject, url, future = waiting.popleft()
    return subject, url, future.result()


def _write(url: str, row: Rows) -> str:
    data = encode_png(row)
    storage.write(url, data)
    return hashlib.sha256(data).hexdigest()


def told_subject(subject: Subject, names: tuple[str, ...], num_classes: int) -> dict[str, Any]:
    """One picture in a manifest."""
    told: dict[str, Any] = {"seed": subject.seed, "number": subject.number}
    if num_classes:
        told |= {"label": subject.label, "class": name_of(names, subject.label)}
    return told


def encode_manifest(trained: Trained, files: list[dict[str, Any]], **more: Any) -> bytes:
    """What a folder of pictures is, as JSON; files: each with its name, subjects and sha256."""
    of = {"checkpoint": trained.url, "checkpoint_sha256": trained.sha256}
    manifest = {
        "format": MANIFEST_FORMAT,
        "made_by": f"gan-distributed {__version__}",
        **of,
        "weights": trained.weights,
        "seen_images": trained.seen_images,
        **more,
        # Each file tells its own origin, so that one that is taken out of the folder can be traced.
        "files": [{**file, "checkpoint_sha256": trained.sha256} for file in files],
    }
    return json.dumps(manifest, indent=1).encode()
