"""What every figure is given: the data in each contestant's format, the rules of a contest, and where rows go."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import gan_distributed
from stream_figures.bucket import Bucket, serving
from stream_figures.contest import Entry, Kind, LeftOutError, Result, Rules, contest, write_format

_HERE = Path(__file__).parent.parent
_BUILTIN = Path(gan_distributed.__file__).parent / "data" / "sources" / "builtin" / "fashion-mnist"
# Of the full data sets: 614 MB and 492 MB.
_NUM_IMAGES = {64: 50_000, 128: 10_000}
_QUICK_SHARE = 10
_OF_PEERS = ("litdata_raw", "mosaic_raw", "webdataset_npy")
# Runs that decide which settings of a contestant are its best.
_TRIALS = 2


@dataclass(frozen=True)
class Pythons:
    """The Pythons that hold the peers; the project's own is the one that runs this."""

    peers: str
    ffcv: str


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark. log: what contestants say.   raw: JSON lines."""

    data: Path
    scratch: Path
    pythons: Pythons
    rules: Rules
    is_quick: bool
    log: IO[str]
    raw: IO[str]

    def num_images(self, pixels: int) -> int:
        """Images of the data set."""
        return _NUM_IMAGES[pixels] // (_QUICK_SHARE if self.is_quick else 1)

    def key(self, module: str, pixels: int) -> str:
        """Where the data set lies in a contestant's format, below the data folder, made at the first call.

        module: of stream_peers, or "pictures".   Raises LeftOutError.
        """
        key = f"{pixels}-{self.num_images(pixels)}/{module}"
        if (self.data / key).exists():
            return key
        pictures = self.data / self.key("pictures", pixels) if module != "pictures" else Path()
        self.tell(f"making {key} ...")
        unfinished = self.data / f"{key}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        if module == "pictures":
            self._make_pictures(unfinished, pixels)
        else:
            write_format(self.entry(module, module), pictures, unfinished, self.log)
        unfinished.rename(self.data / key)
        return key

    def folder(self, module: str, pixels: int) -> str:
        """The same as a path."""
        return str(self.data / self.key(module, pixels))

    def entry(self, name: str, module: str, **options: Any) -> Entry:
        """A contestant in the Python that holds it."""
        return Entry(name, module, self._python(module), options)

    def contest(self, kind: Kind, *entries: Entry) -> list[Result]:
        """All rounds of some contestants."""
        self.tell(f"  {' | '.join(entry.name for entry in entries)}")
        return contest(kind, entries, self.rules, self.log, self.raw)

    def best(self, kind: Kind, candidates: Sequence[Entry]) -> Entry:
        """The fastest of a contestant's settings, by a short trial; those that fail are passed over.

        Raises LeftOutError where all fail.
        """
        if len(candidates) == 1:
            return candidates[0]
        rules = replace(self.rules, rounds=_TRIALS, max_redos=0)
        speeds: dict[int, float] = {}
        reason = ""
        for index, entry in enumerate(candidates):
            self.tell(f"  trial: {entry.name}")
            try:
                speeds[index] = contest(kind, [entry], rules, self.log, self.raw)[0].images_per_s
            except LeftOutError as error:
                reason = str(error)
        if not speeds:
            raise LeftOutError(reason)
        return candidates[max(speeds, key=speeds.__getitem__)]

    @contextlib.contextmanager
    def bucket(self, *keys: str) -> Iterator[Bucket]:
        """The data folder as a bucket, after the data of the keys was read once, so that disks are no part of it."""
        for key in keys:
            for path in (self.data / key).rglob("*"):
                if path.is_file():
                    path.read_bytes()
        with tempfile.TemporaryDirectory(dir=self.scratch) as scratch, serving(self.data, Path(scratch)) as bucket:
            yield bucket

    def tell(self, line: str) -> None:
        """A sign of life."""
        print(line, file=self.log, flush=True)
        print(line, file=sys.stderr, flush=True)

    def _python(self, module: str) -> str:
        if module == "ffcv_raw":
            return self.pythons.ffcv
        return self.pythons.peers if module in _OF_PEERS else sys.executable

    def _make_pictures(self, dest: Path, pixels: int) -> None:
        words = [self.pythons.peers, "-m", "stream_peers.pictures", str(_BUILTIN), str(dest), str(pixels)]
        ended = subprocess.run(
            [*words, str(self.num_images(pixels))], cwd=_HERE, stderr=subprocess.PIPE, text=True, check=False
        )
        if ended.returncode:
            raise SystemExit(f"the pictures cannot be made: {ended.stderr.strip().splitlines()[-1]}")
