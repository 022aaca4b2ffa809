"""Which images of a data set are equal to an earlier one: found by the hashes of their rows, sorted on this disk."""

from collections.abc import Iterable, Iterator

from gan_distributed.data.preparation.receipts import Fate
from gan_distributed.data.sources.listing import full_disk_told, temporary_database


class Duplicates:
    """Takes the fates of all images in the data set's order; then tells which rows come a second time."""

    def __init__(self) -> None:
        self._database = temporary_database()
        self._database.execute("CREATE TABLE images (position INTEGER PRIMARY KEY, digest BLOB, name BLOB)")
        self._num_seen = 0

    @full_disk_told()
    def add(self, fates: Iterable[Fate]) -> None:
        """The fates that come next."""
        self._database.execute("BEGIN")
        for position, fate in enumerate(fates, start=self._num_seen):
            self._num_seen += 1
            if fate.digest is not None:
                row = (position, bytes.fromhex(fate.digest), fate.name.encode("utf-8", "surrogatepass"))
                self._database.execute("INSERT INTO images VALUES (?, ?, ?)", row)
        self._database.execute("COMMIT")

    def find(self) -> Iterator[tuple[int, str, str]]:
        """(position among all fates, name, name of the first that is equal) of each duplicate, in order."""
        found = self._database.execute(
            "SELECT position, name, first FROM ("
            " SELECT position, name, FIRST_VALUE(name) OVER same AS first, ROW_NUMBER() OVER same AS turn FROM images"
            " WINDOW same AS (PARTITION BY digest ORDER BY position)"
            ") WHERE turn > 1 ORDER BY position"
        )
        for position, name, first in found:
            yield position, name.decode("utf-8", "surrogatepass"), first.decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Free the disk."""
        self._database.close()
