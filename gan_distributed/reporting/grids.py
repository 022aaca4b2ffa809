"""Sample grids of a run for a page: how many of them, and how sharp, so that all fit in a budget of bytes."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from gan_distributed.data import storage
from gan_distributed.errors import InputError
from gan_distributed.reporting.events import kimg
from gan_distributed.reporting.reading import Run

_MOST_GRIDS, _FEWEST_GRIDS = 48, 12
_READS = 8
# (WebP quality, share of the width): tried in turn where PNG files are too large.
_SETTINGS = ((90, 1.0), (75, 1.0), (75, 0.5), (60, 0.25))


@dataclass(frozen=True)
class Grid:
    """One picture. url: a data: URL."""

    seen_images: int
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Timeline:
    """Grids of one run, oldest first. note: what was left out or made smaller, "" where nothing was."""

    grids: list[Grid]
    note: str


def timeline_of(run: Run, budget_bytes: int, most: int = _MOST_GRIDS) -> Timeline:
    """Evenly spread grids, the first and the last among them, of at most so many bytes as base64."""
    if not run.samples:
        return Timeline([], "")
    chosen = _spread(run.samples, most)
    files = _read(run, chosen)
    # base64 makes four characters of three bytes.
    budget = budget_bytes * 3 // 4
    told = ""
    if sum(map(len, files)) > budget:
        files, chosen, told = _made_smaller(files, chosen, budget)
    grids = [_grid(seen, data) for seen, data in zip(chosen, files, strict=True)]
    left_out = f"{len(chosen)} of {len(run.samples)} grids" if len(chosen) < len(run.samples) else ""
    return Timeline(grids, ", ".join(note for note in (left_out, told) if note))


def picture(data: bytes) -> str:
    """An image file as a data: URL."""
    kind = "webp" if data[:4] == b"RIFF" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _read(run: Run, chosen: Sequence[int]) -> list[bytes]:
    with ThreadPoolExecutor(_READS, thread_name_prefix="grids") as pool:
        files = list(pool.map(storage.read_bytes, map(run.folder.sample_url, chosen)))
    for seen, data in zip(chosen, files, strict=True):
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            url = run.folder.sample_url(seen)
            raise InputError(f"{url}: not a PNG file ({error}); remove it and report again") from error
    return files


def _spread(values: Sequence[int], most: int) -> list[int]:
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def _made_smaller(files: list[bytes], chosen: list[int], budget: int) -> tuple[list[bytes], list[int], str]:
    """WebP, in each quality with all, then half, then a quarter of the grids. The last try is taken as it comes."""
    for quality, share in _SETTINGS:
        encoded = dict(zip(chosen, (_as_webp(data, quality, share) for data in files), strict=True))
        fewer = chosen
        while True:
            smaller = [encoded[seen] for seen in fewer]
            if sum(map(len, smaller)) <= budget:
                size = "" if share == 1 else f", at {share:.0%} of the size"
                return smaller, fewer, f"re-encoded as WebP, quality {quality}{size}"
            if len(fewer) <= _FEWEST_GRIDS:
                break
            fewer = _spread(fewer, max(_FEWEST_GRIDS, len(fewer) // 2))
    last = chosen[-1]
    return [encoded[last]], [last], f"only the last one fits the budget; re-encoded as WebP, quality {quality}"


def _as_webp(data: bytes, quality: int, share: float) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    if share < 1:
        picture = picture.resize((max(1, round(picture.width * share)), max(1, round(picture.height * share))))
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def _grid(seen: int, data: bytes) -> Grid:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    return Grid(seen, picture(data), width, height)


def described(grid: Grid) -> str:
    """What a grid shows, for readers who cannot see it."""
    return f"Generated images at {kimg(grid.seen_images)}, {grid.width} by {grid.height} pixels"
