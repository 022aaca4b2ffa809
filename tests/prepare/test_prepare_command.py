"""The `prepare` command as a user meets it: its options, its progress, Ray."""

import re
import subprocess
import sys

import pytest
from preparing import contents, run

from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation.ray_session import ray_session
from gan_distributed.errors import InputError, StorageError

pytestmark = pytest.mark.usefixtures("small_and_fast")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 30}, "--resolution 30: give a multiple of 4 from 8 to 1024"),
        ({"resolution": 2048}, "--resolution"),
        ({"resolution": 4}, "--resolution"),
        ({"channels": 2}, "--channels 2"),
        ({"limit": 0}, "--limit 0"),
        ({"workers": -1}, "--workers -1"),
        ({"max_bad": 1.5}, "--max-bad 1.5"),
        ({"block_mib": 0}, "--block-mib 0"),
    ],
)
def test_options_are_checked(options, said, folder, tmp_path):
    with pytest.raises(InputError, match=said):
        run(folder, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("url", ["s3://key:hunter2@bucket/set", "https://host/images.zip?X-Amz-Signature=hunter2"])
def test_a_credential_is_refused_and_not_repeated(url, tmp_path):
    for name, places in (("SOURCE", (url, str(tmp_path))), ("DEST", (str(tmp_path), url))):
        with pytest.raises(InputError, match=f"{name}: the URL holds a password or a signature") as caught:
            run(*places)
        assert "hunter2" not in str(caught.value)


def test_progress_is_told(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gan_distributed.data.preparation.progress._EVERY_S", 0.0)
    run(folder, tmp_path / "a")
    err = capsys.readouterr().err
    assert "of 60 images, " in err
    assert " a core, 0:00:0" in err
    assert "60 images in " in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(folder, tmp_path / "b")
    shown = capsys.readouterr().err
    assert "60 of 60 images" in re.sub("\x1b[^A-Za-z]*[A-Za-z]", "", shown)


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "gan_distributed.prepare", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def test_the_command(tmp_path):
    done = command("builtin:fashion-mnist", tmp_path / "a", "--resolution", "16", "--limit", "200")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"prepared: {tmp_path}/a holds 200 images of 16x16x1 in 10 classes, 0 quarantined")
    assert load_manifest(str(tmp_path / "a")).class_histogram == (20,) * 10
    wrong = command("builtin:emoji", tmp_path / "b", "--resolution", "16")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: builtin:emoji: there is no such data set; there is fashion-mnist\n"


def test_help_starts_no_heavy_library():
    """Ray, torch and torchvision take seconds to import."""
    check = (
        "import sys, gan_distributed.prepare\n"
        "sys.exit(', '.join({'ray', 'torch', 'torchvision', 'gcsfs'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = command("--help")
    assert done.returncode == 0
    assert "--max-bad" in done.stdout


def test_nobody_at_the_address(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match="RAY_ADDRESS=127.0.0.1:1: no Ray answers there"):
        run(folder, tmp_path / "a", workers=2)


@pytest.mark.xdist_group("ray")
def test_any_number_of_workers_gives_the_same_bytes(folder, tmp_path, monkeypatch):
    """On a real Ray, which prepare starts and ends; also an error that a task meets."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run(folder, tmp_path / "none")
    with ray_session(2, is_local=True) as (ray, num_cpus, _):
        assert num_cpus == 2
        run(folder, tmp_path / "two", workers=2)
        # Found running, so left running.
        assert ray.is_initialized()
        assert contents(tmp_path / "two") == contents(tmp_path / "none")
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "shards").write_text("a file where the folder should be")
        with pytest.raises(StorageError, match="cut/shards") as caught:
            run(folder, tmp_path / "cut", workers=2)
        assert "\n" not in str(caught.value)
    assert not ray.is_initialized()
