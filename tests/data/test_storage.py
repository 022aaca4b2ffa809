"""Bytes at a path and at memory:// behave the same, and nothing half-written is ever seen."""

import errno
import os
import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_distributed.data import attempts, storage
from gan_distributed.data.sources import folders
from gan_distributed.errors import AccessError, AlreadyExistsError, InputError, MissingError, StorageError

names = st.text("abcXYZ012-_. ", min_size=1, max_size=8).filter(lambda name: name.strip(". ") != "")


@pytest.fixture(params=["path", "file", "memory"])
def root(request, tmp_path):
    return {"path": str(tmp_path / "r"), "file": f"file://{tmp_path}/r", "memory": f"memory://{tmp_path}"}[
        request.param
    ]


def test_write_read_delete(root):
    place = storage.join(root, "a/b", "c.bin")
    assert storage.size(place) is None
    assert not storage.exists(place)
    storage.write(place, b"0123456789")
    assert storage.read_bytes(place) == b"0123456789"
    assert storage.read_range(place, 2, 5) == b"234"
    assert storage.size(place) == 10
    storage.write(place, b"new")
    assert storage.read_bytes(place) == b"new"
    assert storage.names(root) == ["a"]
    assert list(folders.walk(root)) == [("a/b/c.bin", 3)]
    with storage.open_binary(place) as stream:
        stream.seek(1)
        assert stream.read() == b"ew"
    storage.delete(place)
    storage.delete(place)
    assert not storage.exists(place)
    storage.delete_folder(root)
    storage.delete_folder(root)
    assert storage.names(root) == []
    assert list(folders.walk(root)) == []


def test_create_is_once(root):
    place = storage.join(root, "lease.json")
    storage.create(place, b"mine")
    with pytest.raises(AlreadyExistsError, match="is there already"):
        storage.create(place, b"yours")
    assert storage.read_bytes(place) == b"mine"
    assert storage.names(root) == ["lease.json"]


def test_missing(root):
    for read in (storage.read_bytes, lambda url: storage.read_range(url, 0, 3), storage.open_binary):
        with pytest.raises(MissingError, match="nothing here") as caught:
            read(storage.join(root, "nowhere"))
        assert isinstance(caught.value, InputError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@given(st.lists(st.tuples(names, names, st.binary(max_size=20)), max_size=6))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_listed(files):
    root = "memory://listing"
    storage.delete_folder(root)
    wanted = {}
    for folder, name, data in files:
        storage.write(storage.join(root, folder, name), data)
        wanted[f"{folder}/{name}"] = data
    assert dict(folders.walk(root)) == {name: len(data) for name, data in wanted.items()}
    assert all(storage.read_bytes(storage.join(root, name)) == data for name, data in wanted.items())
    assert storage.names(root) == sorted({name.split("/")[0] for name in wanted})


def test_of_many_creators_one_succeeds(tmp_path):
    place = str(tmp_path / "lease")
    won = []

    def create(number):
        try:
            storage.create(place, b"%d" % number)
            won.append(number)
        except AlreadyExistsError:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(place) == b"%d" % won[0]
    assert os.listdir(tmp_path) == ["lease"]


def test_readers_see_old_or_new(tmp_path):
    place = str(tmp_path / "index.json")
    contents = [bytes([value]) * 200_000 for value in (1, 2)]
    storage.write(place, contents[0])
    seen = set()
    stop = threading.Event()

    def read():
        while not stop.is_set():
            seen.add(storage.read_bytes(place))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        storage.write(place, contents[turn % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_what_was_there(code, tmp_path, monkeypatch):
    place = str(tmp_path / "file")
    storage.write(place, b"old")

    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="the disk is full; free some space") as caught:
        storage.write(place, b"new")
    assert caught.value.exit_code == 1
    with pytest.raises(StorageError, match="the disk is full"):
        storage.create(str(tmp_path / "other"), b"new")
    assert storage.read_bytes(place) == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_where_a_folder_should_be(tmp_path):
    storage.write(str(tmp_path / "file"), b"x")
    with pytest.raises(StorageError, match="folder stands|is there already"):
        storage.write(str(tmp_path / "file" / "below"), b"x")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(AccessError, match="permission denied.*check the owner"):
        storage.write(str(tmp_path / "file"), b"x")


class _Flaky:
    """A file system that fails so many times with an error."""

    def __init__(self, failures, error):
        self.failures, self.error = failures, error

    def cat_file(self, path, **options):
        self.failures -= 1
        if self.failures >= 0:
            raise self.error
        return b"data"


class _HttpError(Exception):
    def __init__(self, code):
        super().__init__(f"status {code}\nand more")
        self.code = code


@pytest.mark.parametrize("error", [OSError("reset"), TimeoutError(), _HttpError(503), _HttpError("429")])
def test_transient_errors_are_tried_again(error, monkeypatch):
    flaky = _Flaky(2, error)
    monkeypatch.setattr(storage, "open_filesystem", lambda url: (flaky, "x"))
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.001)
    before = attempts.counters.retries
    assert storage.read_bytes("gs://bucket/x") == b"data"
    assert attempts.counters.retries == before + 2


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (_HttpError(404), MissingError, "nothing here"),
        (_HttpError(403), AccessError, "gcloud auth application-default login"),
        (_HttpError(400), StorageError, "status 400"),
        (ValueError("odd"), StorageError, "odd"),
    ],
)
def test_final_errors_are_one_line(error, kind, said, monkeypatch):
    flaky = _Flaky(1, error)
    monkeypatch.setattr(storage, "open_filesystem", lambda url: (flaky, "x"))
    with pytest.raises(kind, match=said) as caught:
        storage.read_bytes("gs://bucket/x")
    assert "\n" not in str(caught.value)
    assert flaky.failures == 0


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(storage, "open_filesystem", lambda url: (_Flaky(10**9, OSError("reset")), "x"))
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(attempts, "RETRY_DEADLINE_S", 0.05)
    with pytest.raises(StorageError, match="reset"):
        storage.read_bytes("gs://bucket/x")


def test_who_waits_is_told_once_what_for(monkeypatch, caplog):
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(attempts, "_reminder", attempts.Reminder())

    def warnings():
        monkeypatch.setattr(storage, "open_filesystem", lambda url: (_Flaky(3, ConnectionError("down")), "x"))
        assert storage.read_bytes("gs://bucket/x") == b"data"
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    # Not where it passes at once.
    assert warnings() == []
    monkeypatch.setattr(attempts, "_TELL_AFTER_S", 0.0)
    for _ in range(2):
        (told,) = warnings()
        assert told.startswith("gs://bucket/x: ConnectionError: down; trying again for ")


def test_who_cannot_be_reached_is_told_where_to_look(monkeypatch):
    monkeypatch.setattr(attempts, "RETRY_DEADLINE_S", 0.0)
    monkeypatch.setattr(storage, "open_filesystem", lambda url: (_Flaky(9, ConnectionError("no host")), "x"))
    with pytest.raises(StorageError, match="no host; check the network and the address, then run the same command"):
        storage.read_bytes("gs://bucket/x")


def test_a_short_range_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "RETRY_DEADLINE_S", 0.05)
    storage.write(str(tmp_path / "x"), b"abc")
    with pytest.raises(StorageError, match="1 bytes came, 3 were asked for"):
        storage.read_range(str(tmp_path / "x"), 2, 5)


def test_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("x/") == f"{tmp_path}/x"
    assert storage.absolute("gs://bucket/x/") == "gs://bucket/x"
    assert storage.local_path("s3://bucket/x") is None
    assert storage.protocol("memory://x") == "memory"
    with pytest.raises(InputError, match="known schemes"):
        storage.read_bytes("nosuch://x")
