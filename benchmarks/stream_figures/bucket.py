"""A bucket on loopback that serves a folder: plain HTTP, path-style S3 and the GCS JSON API, read only.

nginx where it is installed, else aiohttp's sendfile. A relay can add a round-trip time to it.
"""

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent.parent
NAME = "bench"
_CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;
  default_type application/octet-stream;
  client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy; fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
  server {{
    listen 127.0.0.1:{port};
    # Plain HTTP, and S3 with the bucket in the path.
    location /{bucket}/ {{ alias {root}/; }}
    # The GCS JSON API: media, and what is known of an object.
    location ~ ^/download/storage/v1/b/{bucket}/o/(.+)$ {{ alias {root}/$1; }}
    location ~ ^/storage/v1/b/{bucket}/o/(.+)$ {{
      if ($arg_alt = media) {{ rewrite ^/storage/(.*)$ /download/storage/$1 last; }}
      default_type application/json; alias {scratch}/known/$1.json;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Bucket:
    """Where it listens."""

    host: str
    server: str

    def url(self, scheme: str, key: str) -> str:
        """The URL of a folder or object: scheme http, gs or s3."""
        return f"http://{self.host}/{NAME}/{key}" if scheme == "http" else f"{scheme}://{NAME}/{key}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes clients of gs:// and s3:// come here."""
        endpoint = f"http://{self.host}"
        return {
            "STORAGE_EMULATOR_HOST": endpoint,
            # Without it gcsfs asks a gRPC service, which nobody serves here, and hangs for a minute.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "FSSPEC_GCS_TOKEN": "anon",
            "S3_ENDPOINT_URL": endpoint,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextlib.contextmanager
def serving(root: Path, scratch: Path) -> Iterator[Bucket]:
    """The bucket, from the moment it answers; its objects are the files below `root`."""
    port, nginx = _free_port(), shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx:
        _write_known(root, scratch / "known")
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        configuration = scratch / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(user=user, scratch=scratch, root=root, port=port, bucket=NAME), encoding="utf-8"
        )
        words, server = [nginx, "-e", str(scratch / "nginx.log"), "-c", str(configuration)], "nginx"
    else:
        words = [sys.executable, "-m", "stream_figures.static_server", str(root), str(port), NAME]
        server = "aiohttp, for want of nginx"
    with _started(words, port):
        yield Bucket(f"127.0.0.1:{port}", server)


@contextlib.contextmanager
def delayed(bucket: Bucket, round_trip_s: float) -> Iterator[Bucket]:
    """The same bucket, so far away."""
    port = _free_port()
    words = [sys.executable, "-m", "stream_figures.relay", bucket.host, str(port), str(round_trip_s)]
    with _started(words, port):
        yield Bucket(f"127.0.0.1:{port}", bucket.server)


def _write_known(root: Path, known: Path) -> None:
    """What the GCS API says of each object."""
    for path in root.rglob("*"):
        if path.is_file():
            key = path.relative_to(root).as_posix()
            place = known / f"{key}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(object_metadata(key, path.stat().st_size)), encoding="utf-8")


def object_metadata(key: str, size: int) -> dict[str, str]:
    """The GCS JSON API's description of an object."""
    return {
        "kind": "storage#object",
        "bucket": NAME,
        "name": key,
        "size": str(size),
        "generation": "1",
        "contentType": "application/octet-stream",
        "timeCreated": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
    }


@contextlib.contextmanager
def _started(words: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(words, cwd=_HERE, stdout=sys.stderr)
    try:
        deadline = time.monotonic() + 20
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(words)}: does not listen on port {port}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
