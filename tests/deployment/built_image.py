"""The image, built for real from the Dockerfile with Debian's tools, and run as Kubernetes does.

Needs root, apt's buildah, mmdebstrap and crun, and some 25 GB of disk.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ["buildah", "mmdebstrap", "crun", "uidmap"]
BASE = "localhost/debian-python:12"
IMAGE = "localhost/gan-distributed:test"
# Where pip finds this machine's own settings and certificates, so that the build sees the registry that we see.
_SETTINGS = ["/etc/ssl/certs", "/etc/pip.conf", "/root/.config/pip", "/etc/xdg/pip"]


def missing() -> str | None:
    """Why no image can be built here, None where it can."""
    if os.getuid() != 0:
        return "only root can build it"
    lacking = [name for name in PACKAGES if name != "uidmap" and shutil.which(name) is None]
    return f"apt-get install {' '.join(PACKAGES)}" if lacking else None


def build(folder: Path) -> None:
    """Make the base from Debian's packages, and the image on it, in a store of its own in the folder."""
    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    include = "--include=python3,python3-venv,ca-certificates,wget"
    _run("mmdebstrap", "--variant=minbase", include, "bookworm", str(base / "base.tar"))
    (base / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    _buildah(folder, "bud", "--isolation", "chroot", "--tag", BASE, str(base))
    words = ["bud", "--isolation", "chroot", "--layers=false", "--build-arg", f"BASE_IMAGE={BASE}", "--tag", IMAGE]
    for place in [*_SETTINGS, *_local_packages()]:
        if Path(place).exists():
            words += ["--volume", f"{place}:{place}:ro"]
    _buildah(folder, *words, str(ROOT))


def _local_packages() -> list[str]:
    """Folders of packages that pip's settings name."""
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    words = listed.replace("'", " ").split()
    urls = [word.removeprefix("file://") for word in words if word.startswith(("file:///", "/"))]
    return sorted({url.removesuffix("/simple") for url in urls if Path(url).is_dir()})


def config(folder: Path) -> dict:
    """What the image says of itself: user, environment, labels."""
    return json.loads(_buildah(folder, "inspect", "--type", "image", IMAGE))["OCIv1"]["config"]


class Container:
    """A container of the image whose root is read-only; /data, /tmp, /home/gan and /dev/shm can be written."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder, self._data = folder, data
        self._config = config(folder)
        self._name = _buildah(folder, "from", IMAGE).strip()
        self._root = _buildah(folder, "mount", self._name).strip()

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        _buildah(self._folder, "umount", self._name)
        _buildah(self._folder, "rm", self._name)

    @property
    def root(self) -> Path:
        """Its files."""
        return Path(self._root)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with no network but its own loopback."""
        bundle = self._folder / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        bundle.mkdir()
        _run("crun", "spec", "--bundle", str(bundle))
        spec = json.loads((bundle / "config.json").read_text())
        spec["root"] = {"path": self._root, "readonly": True}
        spec["process"].update(
            terminal=False,
            user={"uid": 1000, "gid": 1000},
            args=list(words),
            env=self._config["Env"],
            cwd=self._config["WorkingDir"],
            noNewPrivileges=True,
            capabilities={},
        )
        spec["mounts"] = [each for each in spec["mounts"] if each["destination"] not in ("/dev/shm", "/sys/fs/cgroup")]
        spec["mounts"] += [_writable(place) for place in ("/tmp", "/home/gan", "/dev/shm")]
        # A pod knows its own name.
        (bundle / "hosts").write_text(f"127.0.0.1 localhost {spec['hostname']}\n")
        for place, source in {"/data": self._data, "/etc/hosts": bundle / "hosts"}.items():
            bind = {"type": "bind", "source": str(source), "options": ["rbind"]}
            spec["mounts"].append({"destination": place, **bind})
        (bundle / "config.json").write_text(json.dumps(spec))
        # crun wants to see version 2 of cgroups, though it makes none.
        hidden = 'umount --recursive /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        start = ["unshare", "--mount", "bash", "-c", hidden, "bash", "crun", "--root", str(self._folder / "crun")]
        start += ["--cgroup-manager=disabled", "run", "--bundle", str(bundle), "gan-test"]
        return subprocess.run(start, capture_output=True, text=True, check=False)


def _writable(place: str) -> dict:
    options = ["nosuid", "nodev", "mode=1777", "size=2g", "uid=1000", "gid=1000"]
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}


def _buildah(folder: Path, *words: str) -> str:
    store = ["--storage-driver", "overlay", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
    return _run("buildah", *store, *words, TMPDIR=str(folder))


def _run(*words: str, **environment: str) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert ended.returncode == 0, f"{' '.join(words[:8])}…\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout
