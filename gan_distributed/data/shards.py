"""The bytes of one shard: a plain .npy file of uint8 rows, its blocks and their checksums.

Why .npy and no compression: every measured codec decodes slower than a bucket delivers, a block is one range read,
and `np.load` opens the file anywhere.
"""

import io
from typing import IO

import crc32c
import numpy as np
from numpy.typing import NDArray

from gan_distributed.data.manifest import Manifest
from gan_distributed.errors import DataError

Rows = NDArray[np.uint8]


def encode_shard(rows: Rows) -> tuple[bytes, int]:
    """The file's bytes, and the offset at which the first row starts.

    rows: uint8 [N, H, W, C], C order.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": rows.shape}
    )
    return header.getvalue() + np.ascontiguousarray(rows).tobytes(), header.tell()


def encode_labels(labels: NDArray[np.int64]) -> bytes:
    """A plain .npy file of the classes, int64 [N]; rows start at byte `LABELS_OFFSET`."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(labels, dtype="<i8"))
    return file.getvalue()


def write_labels_header(file: IO[bytes], num_rows: int) -> None:
    """Make a .npy file of labels of what stands in the file from LABELS_OFFSET on, as `encode_labels` would."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (num_rows,)})


# NumPy pads the header of a .npy file to a multiple of 64; one dimension always fits in 128 bytes.
LABELS_OFFSET = 128


def block_crc(rows: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> int:
    """crc32c of a block's image bytes, continued over its labels' bytes (int64, little endian)."""
    crc = crc32c.crc32c(np.ascontiguousarray(rows).reshape(-1).data)
    if labels is not None:
        crc = crc32c.crc32c(np.ascontiguousarray(labels, dtype="<i8").data, crc)
    return int(crc)


def damaged(url: str, manifest: Manifest, block: int) -> DataError:
    """What to tell of a block whose bytes are not those that its checksum promises."""
    shard = int(manifest.block_shards[block])
    first = int(manifest.block_starts[block]) - int(manifest.shard_starts[shard])
    return DataError(
        f"{url}/{manifest.shards[shard].path}: the rows from {first} on do not match their checksum; "
        "run the same `gan-distributed prepare` with --repair"
    )


def block_crcs(rows: Rows, labels: NDArray[np.int64] | None, block_rows: int) -> list[int]:
    """crc32c of each block of one shard."""
    return [
        block_crc(rows[start : start + block_rows], None if labels is None else labels[start : start + block_rows])
        for start in range(0, len(rows), block_rows)
    ]
