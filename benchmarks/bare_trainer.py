"""The least job of Ray Train: two workers that import torch and leave a file each in FOLDER. For `start_up.py`.

python benchmarks/bare_trainer.py FOLDER
"""

import os
import sys
from pathlib import Path


def work(arguments: dict[str, str]) -> None:
    import ray.train
    import torch

    ready = torch.ones(1)
    (Path(arguments["folder"]) / f"rank{ray.train.get_context().get_world_rank()}").write_text(str(float(ready)))


def main() -> None:
    folder = sys.argv[1]
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    # As `train` starts it: no dashboard, and nothing told.
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print("Ray is up", flush=True)
    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    run = RunConfig(name="bare", storage_path=folder)
    TorchTrainer(work, train_loop_config={"folder": folder}, scaling_config=scaling, run_config=run).fit()


if __name__ == "__main__":
    main()
