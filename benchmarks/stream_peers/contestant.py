"""The side of a contestant: builds its loader, and works for a window of seconds or a whole epoch when asked.

Runs in the Python of the peer, so it needs NumPy alone. The driver is ../stream_figures/contest.py; the two talk in
lines of JSON through stdin and stdout.
"""

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

BATCH = 128
SEED = 17
# A window opens with an untimed lead, so that nobody is paid for what was read ahead while others ran.
LEAD_SHARE = 0.2

# What `run` is given: "pixels", "folder" or "url", "cache" (a folder that is emptied before the start), and what the
# contestant itself wants to know.
Options = dict[str, Any]
# The batches of one epoch, each the images, uint8 [n, H, W, C], or a tuple that begins with them, or a dict's "x".
# What has a method `close` has it called after a cold epoch, within its time.
Epoch = Callable[[], Iterable[Any]]


class Contestant(Protocol):
    """Who works for a window or an epoch, or for both; says how many images that were."""

    def window(self, seconds: float) -> int:
        """Go on for so many seconds, epoch after epoch."""

    def epoch(self) -> int:
        """Go once through the data set, or through the first options["num_batches"] of it."""


class Loader:
    """A contestant that yields batches. The loader is built when it is first asked for some, and that counts."""

    def __init__(self, open_epoch: Callable[[Options], Epoch], options: Options) -> None:
        self._open_epoch, self._options = open_epoch, options
        self._endless = self._all_batches()
        self._is_checked = False

    def window(self, seconds: float) -> int:
        deadline, num = time.perf_counter() + seconds, 0
        while time.perf_counter() < deadline:
            num += self._take(next(self._endless))
        return num

    def epoch(self) -> int:
        epoch = self._open_epoch(self._options)
        num = sum(self._take(batch) for batch in itertools.islice(epoch(), self._options.get("num_batches")))
        close = getattr(epoch, "close", None)
        if close is not None:
            close()
        return num

    def _all_batches(self) -> Iterator[Any]:
        epoch = self._open_epoch(self._options)
        while True:
            yield from epoch()

    def _take(self, batch: Any) -> int:
        images = batch["x"] if isinstance(batch, dict) else batch[0] if isinstance(batch, tuple | list) else batch
        if not self._is_checked:
            _check(images, self._options["pixels"])
            self._is_checked = True
        # One byte of each batch is looked at: who only promises a batch must deliver it.
        int(images.reshape(-1)[-1])
        return len(images)


def main(open_epoch: Callable[[Options], Epoch], write: Callable[[Path, Path], None] | None = None) -> None:
    """Be the contestant that the command line asks for.

    open_epoch: builds the loader.   write: puts the pictures of a folder into another, in the contestant's format.
    """
    if sys.argv[1] == "write" and write is not None:
        write(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        serve(lambda options: Loader(open_epoch, options))


def serve(build: Callable[[Options], Contestant]) -> None:
    """Answer the driver until it hangs up."""
    # Libraries print; the driver wants nothing but the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    options = json.loads(sys.argv[2])
    if options.get("cache"):
        shutil.rmtree(options["cache"], ignore_errors=True)
        Path(options["cache"]).mkdir()
    contestant = build(options)
    if options.get("folder"):
        _read_through(Path(options["folder"]))
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "epoch":
            answer = _timed(contestant.epoch)
        else:
            contestant.window(LEAD_SHARE * request["seconds"])
            answer = _timed(partial(contestant.window, request["seconds"]))
        print(json.dumps(answer), file=answers)
    # Some loaders hang when they are torn down.
    os._exit(0)


def load(pictures: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures, uint8 [N, H, W, 3], mapped, and their labels, int64 [N]."""
    return np.load(pictures / "images.npy", mmap_mode="r"), np.load(pictures / "labels.npy")


def _timed(work: Callable[[], int]) -> dict[str, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    images = work()
    return {"images": images, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began}


def _check(images: Any, pixels: int) -> None:
    if not str(images.dtype).endswith("uint8") or tuple(images.shape[1:]) != (pixels, pixels, 3):
        raise RuntimeError(f"a batch is {images.dtype} {tuple(images.shape)}, wanted uint8 [n, {pixels}, {pixels}, 3]")


def _read_through(folder: Path) -> None:
    """Bring the files into the page cache."""
    space = memoryview(bytearray(8 << 20))
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(space):
                    pass
