"""Ways on the sphere, and films of them."""

import io
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from gan_distributed.errors import GanError, InputError
from gan_distributed.pictures.interpolation import check_animation, circle, spherical, strips, write_animation
from gan_distributed.pictures.sheets import encode_table


def latents(num: int) -> torch.Tensor:
    return torch.randn(num, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_way_keeps_to_the_sphere_and_its_pace():
    start, end = latents(2)
    end = end * start.norm() / end.norm()
    way = spherical(start, end, torch.linspace(0, 1, 9, dtype=torch.float64))
    torch.testing.assert_close(way[0], start)
    torch.testing.assert_close(way[-1], end)
    torch.testing.assert_close(way.norm(dim=1), start.norm().expand(9))
    angles = torch.cosine_similarity(way[:-1], way[1:]).acos()
    torch.testing.assert_close(angles, angles[:1].expand(8))


def test_equal_and_opposite_ends_have_a_way_too():
    (start,) = latents(1)
    shares = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    for end in (start, -start):
        way = spherical(start, end, shares)
        assert torch.isfinite(way).all()
        torch.testing.assert_close(way[-1], end)


def test_strips_meet_and_a_circle_closes():
    keys = latents(3)
    rows = strips(keys, 4)
    assert rows.shape == (2, 5, 50)
    torch.testing.assert_close(rows[0, -1], rows[1, 0])
    around = circle(keys, 4)
    assert around.shape == (12, 50)
    torch.testing.assert_close(around[::4], keys)
    # The last step leads back to the first.
    assert torch.cosine_similarity(around[-1], around[0], dim=0) > torch.cosine_similarity(around[8], around[0], dim=0)


def frames(num: int) -> list[np.ndarray]:
    return [np.full((16, 16, 3), 20 * index, np.uint8) for index in range(num)]


def test_a_gif_holds_every_frame_enlarged(tmp_path):
    write_animation(str(tmp_path / "film.gif"), iter(frames(5)), 16, 24)
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size) == (5, (256, 256))
        film.seek(4)
        assert film.convert("RGB").getpixel((3, 3)) == (80, 80, 80)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_mp4_holds_every_frame(tmp_path, monkeypatch, channels):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ffmpeg"
    program.symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    write_animation(str(tmp_path / "film.mp4"), (frame[:, :, :channels] for frame in frames(5)), 16, 24)
    words = [program, "-loglevel", "error", "-i", tmp_path / "film.mp4", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    decoded = subprocess.run(words, capture_output=True, check=True, timeout=600).stdout
    assert len(decoded) == 5 * 256 * 256
    shades = np.frombuffer(decoded, np.uint8).reshape(5, -1).mean(axis=1)
    assert np.abs(shades - [0, 20, 40, 60, 80]).max() < 4


def test_without_ffmpeg_an_mp4_is_refused_and_a_failing_one_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"MP4 needs the program ffmpeg, .* or take GIF"):
        check_animation("film.mp4")
    check_animation("film.gif")
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    with pytest.raises(GanError, match="ffmpeg failed: no such codec"):
        write_animation(str(tmp_path / "film.mp4"), iter(frames(2)), 16, 24)
    assert not (tmp_path / "film.mp4").exists()


def test_a_table_has_room_for_its_names():
    cells = np.zeros((2, 3, 8, 8, 1), np.uint8)
    plain = np.asarray(Image.open(io.BytesIO(encode_table(cells, [], []))))
    assert plain.shape == (22, 32)
    named = np.asarray(Image.open(io.BytesIO(encode_table(cells, ["a row", "b"], ["1", "2", "3"]))))
    assert (named[-20:, -30:] == plain[-20:, -30:]).all()
    assert named.shape[0] > 22
    # The name is written on white.
    assert (named[-20:, : named.shape[1] - 32] < 128).any()
