"""The `gan-distributed` command: mounts the verbs."""

import json

from gan_distributed import command
from gan_distributed.bench_data import bench_data
from gan_distributed.evaluate import evaluate
from gan_distributed.export import export
from gan_distributed.generate import generate
from gan_distributed.inspect import inspect
from gan_distributed.plan import plan
from gan_distributed.prepare import prepare
from gan_distributed.project import project
from gan_distributed.report import report
from gan_distributed.runs import runs
from gan_distributed.submit import submit
from gan_distributed.sweep import sweep
from gan_distributed.train import train


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from gan_distributed.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


VERBS = (
    prepare, train, sweep, evaluate, generate, project, export, report, inspect, runs, bench_data, submit, plan, schema,
)  # fmt: skip
WORKFLOW = """Train GANs on images, on one core or a cluster of GPUs. From images to images in four steps:

\b
1  gan-distributed prepare ./photos data --resolution 64
2  gan-distributed train --config jobs/generic64.yaml --data data --output runs --run-id photos
3  gan-distributed evaluate runs/photos --data data
4  gan-distributed generate runs/photos pictures --num 64 --grid

Each step is safe to run again, and goes on where it was. Every path may be a URL: gs://, s3://.
"""


def main() -> None:
    """Entry point of the console script."""
    command.run(*VERBS, name="gan-distributed", help_=WORKFLOW)


if __name__ == "__main__":
    main()
