"""The bytes of MDS shards, whether they are compressed or not."""

import contextlib
import io
from collections.abc import Iterator
from functools import lru_cache
from typing import IO

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.spans import forget_files, read_span
from gan_distributed.data.sources.watched_stream import missing_library
from gan_distributed.errors import DataError, StorageError

PACKED = ".zstd"
# Shards are 64 MiB unless their writer was told otherwise; one that is compressed is held in memory.
_MAX_UNPACKED_BYTES = 2**30
_COPY_BYTES = 2**20


@contextlib.contextmanager
def open_shard(url: str, num_bytes: int) -> Iterator[IO[bytes]]:
    """The shard's bytes as a stream that can be sought; `num_bytes` is what the index says that they are."""
    if url.endswith(PACKED):
        yield io.BytesIO(_unpacked(url))
        return
    found = storage.size(url)
    if found != num_bytes:
        raise DataError(f"{url}: has {found or 0} bytes, index.json says {num_bytes}; fetch it again")
    with storage.open_binary(url) as stream:
        yield stream


def read_value(url: str, start: int, num_bytes: int) -> bytes:
    """The bytes from `start` on of the shard, unpacked."""
    if not url.endswith(PACKED):
        return read_span(url, start, num_bytes)
    found = _unpacked(url)[start : start + num_bytes]
    if len(found) != num_bytes:
        raise BadImageError("the file is shorter than it was")
    return found


def forget_shards() -> None:
    """Let go of what is open or unpacked; called before a listing, since it may have changed."""
    _unpacked.cache_clear()
    forget_files()


@lru_cache(maxsize=1)
def _unpacked(url: str) -> bytes:
    """The whole shard."""
    try:
        import zstandard
    except ImportError as error:
        raise missing_library(url, "a compressed MDS shard", "mds") from error
    out = io.BytesIO()
    try:
        with storage.open_binary(url) as packed, zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            while piece := stream.read(_COPY_BYTES):
                if out.tell() + len(piece) > _MAX_UNPACKED_BYTES:
                    raise DataError(
                        f"{url}: unpacks to more than {_MAX_UNPACKED_BYTES // 2**20} MiB; write smaller shards"
                    )
                out.write(piece)
    except zstandard.ZstdError as error:
        raise DataError(f"{url}: damaged or incomplete ({error}); fetch it again") from error
    except OSError as error:
        raise StorageError(f"{url}: {error}; run the same command again") from error
    return out.getvalue()
