"""Pictures are written side by side and told in order; memory is bounded; a store that refuses ends it."""

import threading

import numpy as np
import pytest

from gan_distributed.data import storage
from gan_distributed.errors import StorageError
from gan_distributed.pictures import writing
from gan_distributed.pictures.subjects import Subject
from gan_distributed.pictures.writing import write_pictures


def made(num: int, counted: list[int] | None = None):
    for number in range(num):
        if counted is not None:
            counted.append(number)
        yield Subject(0, number, 0), np.full((4, 4, 1), number % 256, np.uint8)


def url_of(subject: Subject) -> str:
    return f"memory://pictures/{subject.number}.png"


def test_files_are_told_in_order_once_they_are_there():
    for number, (subject, url, _) in enumerate(write_pictures(made(300), url_of, 300, print)):
        assert (subject.number, url) == (number, url_of(subject))
        assert storage.exists(url)
    assert number == 299


def test_no_more_wait_than_memory_is_for(monkeypatch):
    held, counted = threading.Event(), []
    write = storage.write

    def waiting(url: str, data: bytes) -> None:
        held.wait()
        write(url, data)

    monkeypatch.setattr(writing.storage, "write", waiting)
    found: list = []
    thread = threading.Thread(
        target=lambda: found.extend(write_pictures(made(1000, counted), url_of, 1000, print)), daemon=True
    )
    thread.start()
    # The maker stands still at the limit; it would go on at once if there were none.
    while len(counted) < writing._MOST_WAITING and thread.is_alive():
        thread.join(0.01)
    thread.join(0.2)
    assert len(counted) <= writing._MOST_WAITING + 1
    held.set()
    thread.join()
    assert len(found) == 1000


def test_a_store_that_refuses_ends_it(monkeypatch):
    counted: list[int] = []

    def refusing(url: str, data: bytes) -> None:
        raise StorageError(f"{url}: full")

    monkeypatch.setattr(writing.storage, "write", refusing)
    with pytest.raises(StorageError, match="full"):
        list(write_pictures(made(100_000, counted), url_of, 100_000, print))
    assert len(counted) <= writing._MOST_WAITING + 1
