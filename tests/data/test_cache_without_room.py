"""The cache on disk where there is no room for it: told once, and the run goes on."""

import os
import subprocess
import sys

import pytest
from data.test_cache import read, url

__all__ = ["url"]


def test_a_full_disk_ends_the_cache_and_not_the_run(url, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    found, _ = read(url, tmp_path, 1 << 30)
    assert found["bucket"] > 0
    assert [record.getMessage().count("No space left") for record in caplog.records] == [1]


@pytest.mark.parametrize("place", ["/proc/cache", "a file"])
def test_a_folder_that_cannot_be_written_to_is_told_once_and_the_run_goes_on(url, tmp_path, place, caplog):
    if place == "a file":
        place = str(tmp_path / "file")
        (tmp_path / "file").touch()
    found, is_mapped = read(url, place, 1 << 30)
    assert set(found) == {"bucket"}
    assert not is_mapped
    assert [record.getMessage().endswith("going on without it") for record in caplog.records] == [True]


def test_labels_that_find_no_room_are_fetched_each_time(url, tmp_path, caplog):
    read(url, tmp_path, 1 << 30)
    # A folder where the labels should be is as good as a full disk.
    next(tmp_path.iterdir()).joinpath("labels.npy").mkdir()
    found, is_mapped = read(url, tmp_path, 1 << 30)
    assert set(found) == {"cache"}
    assert not is_mapped
    assert [record.getMessage().count("no more blocks are kept") for record in caplog.records] == [1]


_ON_A_SMALL_DISK = """
import logging, os, resource, subprocess, sys
sys.path.insert(0, "tests")
from pathlib import Path
from datasets import write_dataset
logging.basicConfig(format="%(message)s")
disk, kib, bound = sys.argv[1:]
if bound == "disk":
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk], check=True)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * int(kib), 1024 * int(kib)))
from data.test_cache import NUM, read
write_dataset("memory://set", num=NUM)
print(read("memory://set", Path(disk), 1 << 30, epochs=2))
"""


def _with_little_room(disk, kib, bound, before=()):
    """How the job ended, and the one line that it told."""
    words = [*before, sys.executable, "-c", _ON_A_SMALL_DISK, str(disk), str(kib), bound]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "'bucket'" in ended.stdout
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.stderr


@pytest.mark.parametrize("kib", [4, 24, 300])
def test_a_disk_that_is_really_full(tmp_path, kib):
    """Full at the folder, at the files that are mapped (where a write to a page would kill), and at the blocks."""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk; files with a bound are tested below all the same")
    assert "No space left on device" in _with_little_room(tmp_path, kib, "disk", alone)


@pytest.mark.parametrize("kib", [1, 24])
def test_files_that_may_not_grow(tmp_path, kib):
    """What the kernel refuses anywhere: at the files that are mapped, and at the blocks."""
    assert "File too large" in _with_little_room(tmp_path, kib, "file")
