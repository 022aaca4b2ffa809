"""What lies below a folder is found whole, in pages, wherever it lies."""

import os

import fsspec.config
import pytest
from servers import gcs_server, s3_server

from gan_distributed.data import storage
from gan_distributed.data.sources import folders


@pytest.fixture
def configured():
    """What fsspec reads from the environment, read again; as before afterwards."""
    before = dict(fsspec.config.conf)
    yield lambda: fsspec.config.set_conf_env(fsspec.config.conf)
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)


@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_buckets_are_listed_in_pages(kind, tmp_path, monkeypatch, configured):
    monkeypatch.setattr(folders, "_PAGE_OBJECTS", 7)
    name = {"gs": "_gcs_page", "s3": "_s3_page"}[kind]
    pages, page_of = [], getattr(folders, name)
    monkeypatch.setattr(folders, name, lambda *place: pages.append(page_of(*place)) or pages[-1])
    with gcs_server("bucket") if kind == "gs" else s3_server(tmp_path, "bucket") as environment:
        for key, value in environment.items():
            monkeypatch.setitem(os.environ, key, value)
        configured()
        wanted = {f"c{index % 3}/a name {index}é.png": index for index in range(30)}
        for path, num_bytes in wanted.items():
            storage.write(f"{kind}://bucket/deep/{path}", bytes(num_bytes))
        storage.write(f"{kind}://bucket/deeper/other.png", b"x")
        assert dict(folders.walk(f"{kind}://bucket/deep")) == wanted
        assert len(pages) == 5
        assert max(len(found) for found, _ in pages) <= 7
        assert len(dict(folders.walk(f"{kind}://bucket"))) == 31
        assert list(folders.walk(f"{kind}://bucket/nowhere")) == []
        local = tmp_path / "file"
        local.write_bytes(b"abc" * 1000)
        storage.write_file(f"{kind}://bucket/copy", local)
        assert storage.read_bytes(f"{kind}://bucket/copy") == local.read_bytes()


def test_linked_folders_are_followed_once(tmp_path):
    storage.write(f"{tmp_path}/a/x.png", b"12")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "dead.png").symlink_to("/nowhere.png")
    (tmp_path / ".tmp-1234").write_bytes(b"half")
    assert dict(folders.walk(str(tmp_path))) == {"a/x.png": 2, "b/x.png": 2, "dead.png": 0}
