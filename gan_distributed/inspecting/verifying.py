"""Whether files are what their index says, read in pieces so that a shard of any size takes little memory."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from gan_distributed.data import storage
from gan_distributed.errors import MissingError
from gan_distributed.inspecting.findings import Stored

_PIECE_BYTES = 8 << 20
_THREADS = 4


def damaged(files: Sequence[Stored], say: Callable[[str], None]) -> list[str]:
    """What is wrong with them, a line each; nothing where all are right. Raises StorageError."""
    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        found = []
        for number, wrong in enumerate(pool.map(_wrong, files), start=1):
            if wrong:
                found.append(wrong)
                say(wrong)
            elif number % 100 == 0:
                say(f"{number}/{len(files)} files read")
    return found


def _wrong(file: Stored) -> str | None:
    size = storage.size(file.url)
    if size is None:
        return f"{file.url}: missing"
    if size != file.bytes:
        return f"{file.url}: {size} bytes, its index names {file.bytes}"
    digest = hashlib.sha256()
    try:
        for start in range(0, size, _PIECE_BYTES):
            digest.update(storage.read_range(file.url, start, min(size, start + _PIECE_BYTES)))
    except MissingError:
        return f"{file.url}: missing"
    return None if digest.hexdigest() == file.sha256 else f"{file.url}: its bytes are not those that its index names"
