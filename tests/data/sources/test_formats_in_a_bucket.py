"""Every format that can be read from a bucket, from a real GCS server: the same data set as from the disk."""

import shutil
import sys

import pytest
from commands import run
from servers import gcs_server
from test_hdf5 import LABELS, ROWS, lengths_of_any
from test_hdf5 import write as write_hdf5
from test_mds import WRITTEN
from test_parquet import hugging_face
from test_webdataset import LABELLED, write_shards

# Runs in a process that the server's environment leads to the bucket.
CHILD = """
import sys
from pathlib import Path
from gan_distributed.data import storage
from gan_distributed.prepare import prepare
sets, dest, *places = sys.argv[1:]
for path in Path(sets).rglob("*"):
    if path.is_file():
        storage.write(f"gs://bucket/{path.relative_to(sets)}", path.read_bytes())
for number, place in enumerate(places):
    for name, root in (("disk", sets), ("bucket", "gs://bucket")):
        prepare(f"{root}/{place}", f"{dest}/{number}-{name}", resolution=16, channels=3, workers=0)
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write_shards(root / "wds", LABELLED)
    for part in range(2):
        hugging_face(root / "hf" / f"train-{part:05d}-of-00002.parquet", range(part * 6, part * 6 + 6))
    write_hdf5(root / "pixels.h5", {"chunks": (4, 16, 16, 3), "compression": "gzip"}, imgs=ROWS, labels=LABELS)
    lengths_of_any(root / "files.h5")
    for kind in ("files", "zstd"):
        shutil.copytree(WRITTEN / kind, root / f"mds-{kind}")
    return root


def test_the_same_as_from_the_disk(sets, tmp_path):
    places = ["wds/shard-{000..002}.tar", "wds", "hf", "hf/*.parquet", "pixels.h5?images=imgs", "files.h5"]
    places += ["mds-files", "mds-zstd"]
    with gcs_server("bucket") as environment:
        done = run([sys.executable, "-c", CHILD, str(sets), str(tmp_path), *places], **environment)
    assert done.returncode == 0, done.stderr
    for number, place in enumerate(places):
        disk, bucket = ((tmp_path / f"{number}-{name}" / "manifest.json").read_bytes() for name in ("disk", "bucket"))
        assert disk == bucket, place
