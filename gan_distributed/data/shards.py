"""The bytes of one shard: a plain .npy file of uint8 rows, its blocks and their checksums.

Why .npy and no compression: every measured codec decodes slower than a bucket delivers, a block is one range read,
and `np.load` opens the file anywhere.
"""

import io
from typing import IO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

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


def decode_rows(data: bytes, height: int, width: int, channels: int) -> Rows:
    """Rows from the bytes of a range, uint8 [n, H, W, C], without a copy."""
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, height, width, channels)


def block_crc(rows: Rows, labels: NDArray[np.int64] | None) -> int:
    """crc32c of a block's image bytes, continued over its labels' bytes (int64, little endian)."""
    crc = int(google_crc32c.value(np.ascontiguousarray(rows).tobytes()))
    if labels is not None:
        crc = int(google_crc32c.extend(crc, np.ascontiguousarray(labels, dtype="<i8").tobytes()))
    return crc


def block_crcs(rows: Rows, labels: NDArray[np.int64] | None, block_rows: int) -> list[int]:
    """crc32c of each block of one shard."""
    return [
        block_crc(rows[start : start + block_rows], None if labels is None else labels[start : start + block_rows])
        for start in range(0, len(rows), block_rows)
    ]
