"""Makes the data sets of `quality.py` from packages that anybody can get, and prepares them.

    apt install dataset-fashion-mnist
    python benchmarks/quality_data.py fashion DEST
    python benchmarks/quality_data.py stacked DEST
    npm pack emoji-datasource-google emoji-datasource-twitter emoji-datasource-apple emoji-datasource-facebook
    python benchmarks/quality_data.py emoji DEST emoji-datasource-*.tgz

fashion: the 60,000 training images by class, 32 px.   stacked: three of them at random as red, green and blue, class
= the three digits of their classes (1000 modes; Metz et al. 2017, with garments for digits).   emoji: 64 px PNG files
with alpha, put on white, class = category.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

_FASHION = Path("/usr/share/datasets/fashion-mnist")
_NUM_STACKED = 100_000
_NUM_CLASSES = 10


def fashion(dest: str) -> None:
    _prepare(_idx("images"), dest, 32)


def stacked(dest: str) -> None:
    """Rows are drawn with a fixed seed, so that the set is the same everywhere."""
    images, labels = _read_idx(_idx("images"), 16), _read_idx(_idx("labels"), 8)
    images = images.reshape(-1, 28, 28)
    chosen = np.random.default_rng(0).integers(0, len(images), (_NUM_STACKED, 3))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "stacked.h5"
        with h5py.File(path, "w") as file:
            file["images"] = np.stack([images[column] for column in chosen.T], axis=-1)
            file["labels"] = labels[chosen].astype(np.int64) @ [_NUM_CLASSES**2, _NUM_CLASSES, 1]
        _prepare(f"{path}?images=images&labels=labels", dest, 32)


def emoji(dest: str, packages: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for package in packages:
            _unpack(package, Path(scratch))
        _prepare(scratch, dest, 64)


def _unpack(package: Path, folder: Path) -> None:
    """Pictures of one vendor to CATEGORY/VENDOR-NAME.png."""
    vendor = package.name.removeprefix("emoji-datasource-").split("-")[0]
    with tarfile.open(package) as archive:
        catalogue = json.load(archive.extractfile("package/emoji.json"))  # type: ignore[arg-type]
        categories = {
            variant["image"]: emoji["category"]
            for emoji in catalogue
            for variant in (emoji, *emoji.get("skin_variations", {}).values())
        }
        for member in archive:
            name = PurePosixPath(member.name)
            if name.parent == PurePosixPath(f"package/img/{vendor}/64") and name.name in categories:
                place = folder / categories[name.name].replace(" & ", "-and-").replace(" ", "-")
                place.mkdir(exist_ok=True)
                (place / f"{vendor}-{name.name}").write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]


def _idx(kind: str) -> str:
    (found,) = _FASHION.glob(f"train-{kind}-idx*")
    return str(found)


def _read_idx(path: str, header_bytes: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(Path(path).read_bytes()), np.uint8, offset=header_bytes)


def _prepare(source: str, dest: str, resolution: int) -> None:
    words = [sys.executable, "-m", "gan_distributed.prepare", source, dest, "--resolution", str(resolution)]
    subprocess.run([*words, "--workers", "0"], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("fashion", "stacked", "emoji"))
    parser.add_argument("dest")
    parser.add_argument("packages", nargs="*", type=Path)
    options = parser.parse_args()
    if options.kind == "emoji":
        emoji(options.dest, options.packages)
    else:
        {"fashion": fashion, "stacked": stacked}[options.kind](options.dest)
