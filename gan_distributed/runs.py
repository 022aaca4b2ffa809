"""The verb `runs`: how the runs of a folder or bucket stand."""

import json
import sys
from typing import Annotated

import typer

from gan_distributed import command, terminal


def runs(
    url: Annotated[
        str, typer.Argument(help="The folder that holds the runs (--output of train): a path, gs://, s3://.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Tell them as JSON.")] = False,
) -> None:
    """List runs: done, running, stopped or lost; how far; best score; age of the newest checkpoint.

    Example: gan-distributed runs gs://bucket/runs
    """
    from gan_distributed.inspecting.statuses import COLUMNS, row, statuses

    found = statuses(url)
    if as_json:
        sys.stdout.write(json.dumps({"url": url, "runs": [one.to_json() for one in found]}) + "\n")
    else:
        terminal.write_table(COLUMNS, [row(one) for one in found])
        for one in found:
            if one.error:
                sys.stdout.write(f"{one.run}: {one.error}\n")


if __name__ == "__main__":
    command.run(runs)
