"""Runs as training leaves them, written by its own encoders, without any training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from gan_distributed.config import Change, Recorded, load_config, to_yaml
from gan_distributed.data import storage
from gan_distributed.training.records import Recorder
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.samples import encode_grid
from gan_distributed.training.step import STATISTICS

BEGAN = 1_700_000_000.0


def tick(seen_images: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """One tick of 100 images in two seconds."""
    record = {
        "seen_images": seen_images,
        "attempt": attempt,
        "time": BEGAN + seen_images / 50 + 1000 * (attempt - 1),
        "tick_s": 2.0,
        "images_per_s": 50.0,
        "data_wait_s": 0.1,
        "skipped_steps": 0,
        "augment_probability": 0.0,
        "world_size": 1,
        "rollbacks": 0,
        "device": "a processor",
        "last_committed_seen_images": seen_images // 300 * 300 or -1,
    }
    values = {name: 0.5 + np.sin(seen_images / 200 + len(name)) / 4 for name in STATISTICS}
    return record | values | more


def score(seen_images: int, value: float, metric: str = "fid", **protocol: Any) -> dict[str, Any]:
    """One score of a protocol of which only what is given differs."""
    made = {"metric": metric, "num_fake": 1000, "num_real": 5000, "features": "dataset", "seed": 0} | protocol
    return {
        "metric": metric,
        "value": value,
        "spread": None,
        "seen_images": seen_images,
        "kimg": seen_images / 1000,
        "protocol": made,
        "protocol_digest": json.dumps(made),
        "time": BEGAN + seen_images / 50,
    }


def write_run(
    url: str,
    ticks: list[dict[str, Any]],
    *,
    scores: list[dict[str, Any]] | None = None,
    samples: tuple[int, ...] = (),
    checkpoints: tuple[int, ...] = (),
    rollbacks: tuple[dict[str, Any], ...] = (),
    changes: tuple[Change, ...] = (),
    side: int = 8,
    **settings: Any,
) -> RunFolder:
    """A run's folder. side: pixels of a generated image, which are noise."""
    run = RunFolder(url)
    recorded = Recorded(digest="d" * 64, dataset="f" * 64, changes=changes)
    config = load_config(None, settings).model_copy(update={"recorded": recorded})
    storage.write(run.config_url, to_yaml(config).encode())
    add_ticks(run, ticks)
    for record in scores or []:
        part = f"{record['protocol']['num_fake']}-{record['metric']}"
        storage.write(run.score_url(record["seen_images"], part), (json.dumps(record) + "\n").encode())
    for seen in samples:
        add_grid(run, seen, side)
    for seen in checkpoints:
        storage.write(storage.join(run.checkpoint_url(seen), "COMMIT.json"), b"{}")
    for number, rollback in enumerate(rollbacks, start=1):
        storage.write(run.rollback_url(number), json.dumps(rollback).encode())
    return run


def add_ticks(run: RunFolder, ticks: list[dict[str, Any]]) -> None:
    """A part for each attempt."""
    for attempt in sorted({record["attempt"] for record in ticks}):
        recorder = Recorder(run, attempt)
        for record in ticks:
            if record["attempt"] == attempt:
                recorder.add(record)
        recorder.flush()


def add_grid(run: RunFolder, seen_images: int, side: int = 8) -> None:
    """Four images of noise, other ones at each age."""
    rows = np.random.default_rng(seen_images).integers(0, 256, (4, side, side, 1), dtype=np.uint8)
    storage.write(run.sample_url(seen_images), encode_grid(rows, 0))


def interrupted() -> list[dict[str, Any]]:
    """1000 images, of which 300 were trained twice."""
    first = [tick(seen, 1) for seen in range(100, 700, 100)]
    return first + [tick(seen, 2, world_size=2) for seen in range(400, 1100, 100)]


def files_below(folder: Path) -> list[str]:
    """Names of all files, to see that nothing was left."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
