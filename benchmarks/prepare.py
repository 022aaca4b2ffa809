"""Images a second on one core from JPEG files to rows of 64x64: `prepare`'s own path against torchvision's.

    python benchmarks/prepare.py PHOTO... [--rounds 15] [--images 60]

PHOTO: real photographs, for example those that packages ship (`sklearn/datasets/images/*.jpg`, `skimage/data/*.jpg`).
Crops of them at random scales are saved as JPEG files of quality 90 in the sizes of CelebA and ImageNet. In each round
every way converts all files in turn; the table gives medians of CPU time and their ratio to torchvision's ImageFolder
with v2 transforms (Resize with antialias, CenterCrop). The ways beside `prepare` show what each choice is worth.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.io import decode_jpeg
from torchvision.transforms import v2

from gan_distributed.data.preparation.imaging import to_row

SIDE = 64
SIZES = ((178, 218), (500, 375))


def write_files(folder: Path, photos: list[str], size: tuple[int, int], count: int) -> list[Path]:
    """Random crops of the photographs as JPEG files."""
    draw = np.random.default_rng(0)
    (folder / "class").mkdir()
    paths = [folder / "class" / f"{index:04d}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        photo = Image.open(photos[index % len(photos)]).convert("RGB")
        scale = draw.uniform(0.5, 1) * min(photo.width / size[0], photo.height / size[1])
        width, height = int(scale * size[0]), int(scale * size[1])
        left, top = draw.integers(0, photo.width - width + 1), draw.integers(0, photo.height - height + 1)
        photo.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.LANCZOS).save(
            path, quality=90
        )
    return paths


def resized(image: Image.Image) -> np.ndarray:
    """The largest square in the middle, made small as `prepare` does."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def drafted(data: bytes) -> np.ndarray:
    """Pillow's scaled decoding, then the same."""
    image = Image.open(io.BytesIO(data))
    image.draft(None, (2 * SIDE, 2 * SIDE))
    return resized(image)


def ways(folder: Path, paths: list[Path]) -> dict[str, Callable[[], object]]:
    """What each way does to all files."""
    steps = [v2.Resize(SIDE, antialias=True), v2.CenterCrop(SIDE)]
    on_pillow = ImageFolder(str(folder), v2.Compose([*steps, v2.PILToTensor()]))
    on_tensors = ImageFolder(str(folder), v2.Compose([v2.PILToTensor(), *steps]))

    def tensor_of(data: bytes) -> torch.Tensor:
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def each(convert: Callable[[bytes], object]) -> Callable[[], object]:
        return lambda: [convert(path.read_bytes()) for path in paths]

    return {
        "torchvision ImageFolder, v2 on Pillow images": lambda: [on_pillow[index] for index in range(len(paths))],
        "torchvision ImageFolder, v2 on tensors": lambda: [on_tensors[index] for index in range(len(paths))],
        "prepare": each(lambda data: to_row(data, SIDE, 3, "center")),
        "Pillow, Lanczos": each(lambda data: resized(Image.open(io.BytesIO(data)))),
        "Pillow scaled (draft), Lanczos": each(drafted),
        "simplejpeg, Lanczos": each(lambda data: resized(Image.fromarray(simplejpeg.decode_jpeg(data)))),
        "torchvision.io, Lanczos": each(
            lambda data: resized(Image.fromarray(tensor_of(data).permute(1, 2, 0).numpy()))
        ),
        "torchvision.io, v2 on tensors": each(lambda data: v2.Compose(steps)(tensor_of(data))),
        "decoding alone, Pillow": each(lambda data: Image.open(io.BytesIO(data)).load()),
        "decoding alone, simplejpeg": each(simplejpeg.decode_jpeg),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            paths = write_files(Path(name), options.photos, size, options.images)
            found = ways(Path(name), paths)
            seconds: dict[str, list[float]] = {way: [] for way in found}
            for _ in range(options.rounds + 1):
                for way, convert in found.items():
                    started = time.process_time()
                    convert()
                    seconds[way].append((time.process_time() - started) / len(paths))
        # The first round warms up.
        medians = {way: statistics.median(times[1:]) for way, times in seconds.items()}
        base = next(iter(medians.values()))
        print(f"{size[0]}x{size[1]}, {len(paths)} files")
        for way, median in medians.items():
            print(f"  {way:46} {1 / median:7.0f} images/s a core  {base / median:5.2f}x")


if __name__ == "__main__":
    main()
