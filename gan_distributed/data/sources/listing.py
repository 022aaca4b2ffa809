"""The images of a source, sorted by name, in a temporary database on this disk: memory does not grow with their number.

The database has no name in any folder: it goes away with the process, however that ends. TMPDIR says where it lies.
"""

import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from gan_distributed.data.sources.entries import Entry
from gan_distributed.errors import StorageError

_PAGE = 4096
_CACHE_KIB = 16 * 1024


def temporary_database() -> sqlite3.Connection:
    """A database that is gone when it is closed or the process ends. Of any one thread at a time."""
    # An empty name asks SQLite for a file that it unlinks as soon as it has opened it.
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    return database


@contextlib.contextmanager
def full_disk_told() -> Iterator[None]:
    """Where the disk is full, say how to mend it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise StorageError("the disk for temporary files is full; set TMPDIR to a folder with more room") from error
        raise


class Listing(Sequence[Entry]):
    """Entries sorted by the bytes of their names, read in ranges. Of two entries of a name the later counts."""

    def __init__(self, found: Iterable[Entry]) -> None:
        self._database = temporary_database()
        try:
            self._fill(found)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        """One entry, or those of a range without gaps."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(self._length)
            return self._read(start, stop)
        return self._read(range(self._length)[index], range(self._length)[index] + 1)[0]

    def __iter__(self) -> Iterator[Entry]:
        return self.between(0, self._length)

    def between(self, start: int, stop: int) -> Iterator[Entry]:
        """The entries from start to stop (exclusive), some thousands at a time in memory."""
        for first in range(start, stop, _PAGE):
            yield from self._read(first, min(first + _PAGE, stop))

    def label(self, labels_of: Callable[[list[str]], list[str]], sort: Callable[[set[str]], list[str]]) -> list[str]:
        """Give each entry the index of its label among the sorted labels, which are returned.

        labels_of: from the names of a page to their labels.
        """
        first_seen: dict[str, int] = {}
        rows = enumerate(self, start=1)
        while page := list(itertools.islice(rows, _PAGE)):
            labels = labels_of([entry.name for _, entry in page])
            numbers = [first_seen.setdefault(label, len(first_seen)) for label in labels]
            self._database.execute("BEGIN")
            self._database.executemany(
                "UPDATE images SET label = ? WHERE id = ?",
                [(number, index) for number, (index, _) in zip(numbers, page, strict=True)],
            )
            self._database.execute("COMMIT")
        names = sort(set(first_seen))
        index_of = {first_seen[name]: index for index, name in enumerate(names)}
        self._database.create_function("index_of", 1, index_of.__getitem__, deterministic=True)
        self._database.execute("UPDATE images SET label = index_of(label)")
        return names

    @full_disk_told()
    def spread(self, limit: int) -> None:
        """Keep `limit` entries in their order: as many of each class as can be, chosen by the hash of the name."""
        self._database.create_function("hash", 1, lambda name: hashlib.sha256(name).digest(), deterministic=True)
        # The first of every class, then the second of every class, and so on.
        self._keep(
            "SELECT id FROM ("
            " SELECT id, digest, ROW_NUMBER() OVER (PARTITION BY label ORDER BY digest, id) AS turn"
            " FROM (SELECT id, label, hash(name) AS digest FROM images)"
            ") ORDER BY turn, digest, id LIMIT ?",
            limit,
        )

    def close(self) -> None:
        """Free the disk; the listing is of no use any more."""
        self._database.close()

    @full_disk_told()
    def _fill(self, found: Iterable[Entry]) -> None:
        columns = "name BLOB, label INTEGER, num_bytes INTEGER, position INTEGER, crc INTEGER"
        self._database.execute(f"CREATE TABLE found ({columns})")
        self._database.execute(f"CREATE TABLE images (id INTEGER PRIMARY KEY, {columns})")
        rows = ((name.encode("utf-8", "surrogatepass"), *rest) for name, *rest in found)
        while page := list(itertools.islice(rows, _PAGE)):
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO found VALUES (?, ?, ?, ?, ?)", page)
            self._database.execute("COMMIT")
        # SQLite takes the other columns from the row of the maximum. Bytes sort as Python sorts strings.
        self._database.execute(
            "INSERT INTO images (name, label, num_bytes, position, crc) "
            "SELECT name, label, num_bytes, position, crc FROM "
            "(SELECT *, MAX(rowid) FROM found GROUP BY name) ORDER BY name"
        )
        self._database.execute("DROP TABLE found")
        self._count()

    def _keep(self, ids: str, *values: int) -> None:
        self._database.execute(f"CREATE TABLE chosen AS {ids}", values)
        self._database.execute("CREATE TABLE kept AS SELECT * FROM images WHERE id IN (SELECT id FROM chosen)")
        self._database.execute("DELETE FROM images")
        self._database.execute(
            "INSERT INTO images (name, label, num_bytes, position, crc) "
            "SELECT name, label, num_bytes, position, crc FROM kept ORDER BY id"
        )
        self._database.execute("DROP TABLE kept")
        self._database.execute("DROP TABLE chosen")
        self._count()

    def _count(self) -> None:
        self._length: int = self._database.execute("SELECT COUNT(*) FROM images").fetchone()[0]

    def _read(self, start: int, stop: int) -> list[Entry]:
        # Rows are numbered from 1.
        rows = self._database.execute(
            "SELECT name, label, num_bytes, position, crc FROM images WHERE id > ? AND id <= ? ORDER BY id",
            (start, stop),
        )
        return [Entry(name.decode("utf-8", "surrogatepass"), *rest) for name, *rest in rows]
