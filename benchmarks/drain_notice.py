"""What it costs a training process to ask each second whether its node is taken away: Ray's own barrier of all workers.

    python benchmarks/drain_notice.py [--workers 2] [--calls 100]

The barrier stands in a thread of its own, so that no step waits for it; what it takes from the steps is CPU time. All
threads of the process are counted while nothing else runs in it, less what they take in as long a sleep. The share of a
core is for the one call a second of supervision.py.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

_CALLS_A_SECOND = 1.0


def measure(config: dict[str, Any]) -> None:
    """On each worker: CPU and wall time of a call."""
    import ray.train

    def used() -> float:
        taken = resource.getrusage(resource.RUSAGE_SELF)
        return taken.ru_utime + taken.ru_stime

    ray.train.get_preemption_info()
    began, before = time.monotonic(), used()
    for _ in range(config["calls"]):
        ray.train.get_preemption_info()
    wall, busy = time.monotonic() - began, used() - before
    before = used()
    time.sleep(wall)
    idle = used() - before
    rank = ray.train.get_context().get_world_rank()
    found = {"rank": rank, "cpu_s": (busy - idle) / config["calls"], "wall_s": wall / config["calls"]}
    (Path(config["folder"]) / f"{rank}.json").write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    ray.init(num_cpus=options.workers + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        DataParallelTrainer(
            measure,
            train_loop_config={"calls": options.calls, "folder": folder},
            scaling_config=ScalingConfig(num_workers=options.workers),
            run_config=RunConfig(storage_path=folder),
        ).fit()
        for path in sorted(Path(folder).glob("*.json")):
            found = json.loads(path.read_text())
            share = found["cpu_s"] * _CALLS_A_SECOND
            print(
                f"rank {found['rank']}: {1000 * found['cpu_s']:.2f} ms of CPU time and {1000 * found['wall_s']:.0f} ms "
                f"a call; {share:.2%} of a core at {_CALLS_A_SECOND:g} calls a second"
            )


if __name__ == "__main__":
    main()
