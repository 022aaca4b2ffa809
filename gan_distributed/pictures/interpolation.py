"""Ways between latents, on the sphere, and the moving pictures that they make."""

import contextlib
import io
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from gan_distributed.data import storage
from gan_distributed.errors import GanError, InputError
from gan_distributed.pictures.sheets import enlarged
from gan_distributed.training.samples import Rows

ANIMATIONS = (".gif", ".mp4")
_SEEN_SIDE = 256


def spherical(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Points on the great circle from one latent to another (White 2016, "Sampling generative networks").

    A straight line would pass near 0, where a Gaussian latent never lies.
    start, end: float64 [latent_dim].   shares: float64 [N] in [0, 1].   Returns [N, latent_dim].
    """
    cosine = torch.dot(start, end) / (start.norm() * end.norm())
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    shares = shares[:, None]
    if angle.sin() < 1e-6:
        # No circle is the nearest one between equal or opposite directions.
        return (1 - shares) * start + shares * end
    return (((1 - shares) * angle).sin() * start + (shares * angle).sin() * end) / angle.sin()


def strips(keys: Tensor, steps: int) -> Tensor:
    """From each latent to the next in `steps` steps, both ends included: [N - 1, steps + 1, latent_dim]."""
    shares = torch.linspace(0, 1, steps + 1, dtype=keys.dtype)
    return torch.stack([spherical(start, end, shares) for start, end in itertools.pairwise(keys)])


def circle(keys: Tensor, steps: int) -> Tensor:
    """The same as one way through all latents and back to the first: [N x steps, latent_dim]."""
    return strips(torch.cat([keys, keys[:1]]), steps)[:, :-1].flatten(0, 1)


def write_animation(url: str, frames: Iterable[Rows], side: int, frames_per_s: int, note: str | None = None) -> None:
    """A .gif or .mp4 of frames, uint8 [H, W, C], enlarged so that they can be seen.

    side: theirs in pixels.   note: the file's comment.
    """
    scale = max(1, _SEEN_SIDE // side)
    large = (enlarged(frame, scale) for frame in frames)
    if url.endswith(".gif"):
        storage.write(url, _gif(large, frames_per_s, note))
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frames.mp4"
            _encode_mp4(path, large, frames_per_s, note)
            storage.write_file(url, path)


def check_animation(url: str) -> None:
    """Raise InputError where the program for it is missing."""
    if url.endswith(".mp4") and shutil.which("ffmpeg") is None:
        raise InputError(f"{url}: MP4 needs the program ffmpeg, which is not there; install it, or take GIF")


def _gif(frames: Iterator[Rows], frames_per_s: int, note: str | None) -> bytes:
    images = (Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame) for frame in frames)
    file = io.BytesIO()
    first = next(images)
    told = {} if note is None else {"comment": note.encode()}
    first.save(file, "GIF", save_all=True, append_images=images, duration=1000 // frames_per_s, loop=0, **told)
    return file.getvalue()


def _encode_mp4(path: Path, frames: Iterator[Rows], frames_per_s: int, note: str | None) -> None:
    first = next(frames)
    height, width, channels = first.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "gray" if channels == 1 else "rgb24", "-s", f"{width}x{height}"]
    metadata = [] if note is None else ["-metadata", f"comment={note}"]
    coded = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", *metadata, str(path)]
    words = ["ffmpeg", "-y", "-loglevel", "error", *raw, "-r", str(frames_per_s), "-i", "-", *coded]
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=told)
        # A broken pipe is no news: the program says on its own why it takes no more.
        with process, contextlib.suppress(BrokenPipeError):
            for frame in itertools.chain([first], frames):
                process.stdin.write(frame.tobytes())  # type: ignore[union-attr]
        if process.returncode:
            told.seek(0)
            raise GanError(f"ffmpeg failed: {' '.join(told.read().decode(errors='replace').split())}")
