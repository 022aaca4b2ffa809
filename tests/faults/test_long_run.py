"""20,000 steps of a tiny job: resident memory, open files and threads stay what they were."""

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from commands import Background, train_words
from datasets import write_dataset
from servers import free_port, get

from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder

STEPS, BATCH = 20_000, 8
SAMPLE_S = 0.5
# What is left out at the start: imports, first batches, the allocator's first rounds.
WARM_UP = 0.2


def measured(process: int) -> tuple[int, int, int]:
    """Resident bytes, open files and threads of a process."""
    place = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return 1024 * int(status["VmRSS"].split()[0]), len(list((place / "fd").iterdir())), int(status["Threads"])


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_20_000_steps_leave_memory_files_and_threads_flat(tmp_path, capsys):
    write_dataset(str(tmp_path / "data"))
    port = free_port()
    settings = [f"training.batch_size={BATCH}", f"training.total_kimg={STEPS * BATCH / 1000}", "model.latent_dim=4"]
    # Every kind of work that a run does again and again: ticks, samples, checkpoints, scrapes, fetches into the arena.
    settings += ["training.tick_kimg=0.8", "samples.every_kimg=4", "checkpoint.every_kimg=4", "data.map_local=false"]
    settings += ["metrics.host=127.0.0.1", f"metrics.port={port}", f"data.memory_bytes={150 * 16 * 1024}"]
    words = train_words(tmp_path, str(tmp_path / "data"), str(tmp_path / "runs"), 0, *settings)
    samples = []
    with Background(words, tmp_path / "log", OMP_NUM_THREADS="1") as job:
        while job.process.poll() is None:
            # The process may end in between.
            with contextlib.suppress(OSError, KeyError):
                get(f"http://127.0.0.1:{port}/metrics")
                samples.append((time.monotonic(), *measured(job.process.pid)))
            time.sleep(SAMPLE_S)
        assert job.end() == 0, job.log()
    records = read_records(RunFolder(str(tmp_path / "runs" / "r")))
    assert records[-1]["seen_images"] == STEPS * BATCH
    assert sum(record["skipped_steps"] for record in records) == 0
    seconds, resident, files, threads = np.array(samples[int(WARM_UP * len(samples)) :], float).T
    half = len(seconds) // 2
    slope, _ = np.polyfit(seconds, resident, 1)
    grown, noise = (
        slope * (seconds[-1] - seconds[0]),
        float(np.std(resident - np.poly1d(np.polyfit(seconds, resident, 1))(seconds))),
    )
    with capsys.disabled():
        print(
            f"\n{STEPS} steps, {len(samples)} samples: resident {resident.mean() / 2**20:.1f} MiB, trend "
            f"{grown / 2**20:+.2f} MiB over the last {1 - WARM_UP:.0%}, noise {noise / 2**20:.2f} MiB; open files "
            f"{files[:half].max():.0f} at most in the first half, {files[half:].max():.0f} in the second; threads "
            f"{threads[:half].max():.0f} and {threads[half:].max():.0f}"
        )
    assert grown < max(2 * noise, 0.01 * resident.mean())
    assert files[half:].max() <= files[:half].max() + 1
    assert threads[half:].max() <= threads[:half].max() + 1
