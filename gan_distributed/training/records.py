"""Metric records of a run: JSON lines in part objects, since buckets cannot append; and the line that people read."""

import json
import threading
from collections.abc import Iterable
from typing import Any

from gan_distributed.data import storage
from gan_distributed.errors import GanError
from gan_distributed.training.run_folder import RunFolder


class Recorder:
    """Collects one attempt's records and writes them as parts named by their first seen_images and the attempt.

    Any thread may call it.
    """

    def __init__(self, run: RunFolder, attempt: int) -> None:
        self._run, self._attempt = run, attempt
        self._records: list[dict[str, Any]] = []
        self._files: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        # Held while something is written, so that whoever flushes finds it written, or pending again.
        self._writing = threading.Lock()

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, with `seen_images`, until the next flush."""
        with self._lock:
            self._records.append(record)

    def add_file(self, url: str, data: bytes) -> None:
        """Keep a file of records of its own until the next flush."""
        with self._lock:
            self._files.append((url, data))

    def flush(self) -> None:
        """Return when all that was added is written, the records as one part; what cannot be written stays pending."""
        with self._writing:
            with self._lock:
                records, self._records = self._records, []
                files, self._files = self._files, []
            try:
                while files:
                    storage.write(*files[0])
                    files.pop(0)
                if records:
                    lines = "".join(json.dumps(record) + "\n" for record in records)
                    storage.write(self._run.metrics_url(records[0]["seen_images"], self._attempt), lines.encode())
            except GanError:
                with self._lock:
                    self._records, self._files = records + self._records, files + self._files
                raise


def read_records(run: RunFolder) -> list[dict[str, Any]]:
    """All records by seen_images; where attempts overlap, the later attempt wins."""
    folder = storage.join(run.url, "metrics")
    return merge_attempts(by_attempt(storage.read_bytes(storage.join(folder, name)) for name in storage.names(folder)))


def by_attempt(parts: Iterable[bytes]) -> dict[int, dict[int, dict[str, Any]]]:
    """The records of all parts: attempt -> seen_images -> record, both rising."""
    attempts: dict[int, dict[int, dict[str, Any]]] = {}
    for part in parts:
        for line in part.decode().splitlines():
            record = json.loads(line)
            attempts.setdefault(record["attempt"], {})[record["seen_images"]] = record
    return {attempt: dict(sorted(records.items())) for attempt, records in sorted(attempts.items())}


def merge_attempts(attempts: dict[int, dict[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records that count, by seen_images: what earlier attempts did from a later one's first on was done again."""
    merged: dict[int, dict[str, Any]] = {}
    for records in attempts.values():
        merged = {seen: record for seen, record in merged.items() if seen < min(records)} | records
    return [merged[seen] for seen in sorted(merged)]


def progress_line(record: dict[str, Any], total_images: int) -> str:
    """What a person wants to know at a tick."""
    seen = record["seen_images"]
    left_s = max(0, total_images - seen) / max(record["images_per_s"], 1e-9)
    return (
        f"{seen / 1000:.1f}/{total_images / 1000:.1f} kimg  {record['images_per_s']:,.0f} images/s  "
        f"loss D {record['loss_discriminator']:.3f} G {record['loss_generator']:.3f}  "
        f"D accuracy real {record['accuracy_real']:.2f} fake {record['accuracy_fake']:.2f}  "
        f"{duration(left_s)} left" + (f"  {record['skipped_steps']} steps skipped" if record["skipped_steps"] else "")
    )


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
