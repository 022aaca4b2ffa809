"""Where the bytes of a read go: a buffer that whoever reads writes into directly, piece by piece."""

from collections.abc import Callable

# Small enough to be in the processor's cache when it is looked at again, large enough that little of the time is
# spent between two of them.
PIECE_BYTES = 1 << 20

# Writes what is there, without waiting for more, into the memory it is given; returns how many bytes those were, None
# where none were there yet, 0 at the end.
Read = Callable[[memoryview], int | None]


class NotWantedError(Exception):
    """The bytes of a read are of no use any more."""


class Target:
    """A buffer that is filled from its start."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self.num_filled = 0

    @property
    def num_missing(self) -> int:
        """Bytes that are still to come."""
        return len(self._buffer) - self.num_filled

    def while_waiting(self) -> None:
        """Called when a store was asked and has not answered yet."""

    def fill(self, read: Read, most: int = PIECE_BYTES) -> int | None:
        """Let `read` write the next bytes, so many at most and no more than a piece; returns what it returns.

        Raises NotWantedError.
        """
        end = min(len(self._buffer), self.num_filled + min(most, PIECE_BYTES))
        count = read(self._buffer[self.num_filled : end])
        self.num_filled += count or 0
        return count

    def fill_from(self, data: bytes | memoryview) -> None:
        """Copy bytes that are there already."""
        at = 0

        def copy(part: memoryview) -> int:
            count = min(len(part), len(data) - at)
            part[:count] = data[at : at + count]
            return count

        while at < len(data):
            at += self.fill(copy, len(data) - at) or 0
