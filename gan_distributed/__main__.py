"""The `gan-distributed` command: mounts the verbs."""

import json

from gan_distributed import command
from gan_distributed.bench_data import bench_data
from gan_distributed.evaluate import evaluate
from gan_distributed.export import export
from gan_distributed.generate import generate
from gan_distributed.plan import plan
from gan_distributed.prepare import prepare
from gan_distributed.report import report
from gan_distributed.submit import submit
from gan_distributed.train import train


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from gan_distributed.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def main() -> None:
    """Entry point of the console script."""
    verbs = (prepare, train, evaluate, generate, export, report, bench_data, submit, plan, schema)
    command.run(*verbs, name="gan-distributed")


if __name__ == "__main__":
    main()
