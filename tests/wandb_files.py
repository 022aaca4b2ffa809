"""What an offline run of Weights & Biases left in its files: log records of LevelDB, each a Record of wandb's own."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

# `:W&B`, a magic number and a version; then blocks, each of chunks with checksum, length and place in their record.
_HEADER, _BLOCK = 7, 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_offline(file: Path) -> tuple[list[dict], list]:
    """The rows of its history by name, each with `_step`, and all its records."""
    from wandb.proto.wandb_internal_pb2 import Record

    records = [Record.FromString(data) for data in _records(file.read_bytes())]
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append(items | {"_step": record.history.step.num})
    return rows, records


def _records(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    place, parts = _HEADER, []
    while place + 7 <= len(data):
        if _BLOCK - place % _BLOCK < 7:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += 7
        if not kind:
            return
        parts.append(data[place : place + length])
        place += length
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []
