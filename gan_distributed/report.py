"""The verb `report`: one self-contained HTML page of a run, or a comparison of several; with --serve, over HTTP."""

import contextlib
import json
import sys
from typing import Annotated

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

_OUT_END = ".html"


def report(
    places: Annotated[
        list[str], typer.Argument(metavar="RUN_URL… OUT.html", help="Runs, then the page; with --serve runs only.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Where the data set is now, if it is not where the run found it.")
    ] = None,
    max_mb: Annotated[float, typer.Option(min=0.1, help="Megabytes that the sample grids may take in all.")] = 8.0,
    search_s: Annotated[
        float, typer.Option(min=0, help="Seconds for real images and nearest training images; 0: leave them out.")
    ] = 60.0,
    serve: Annotated[bool, typer.Option("--serve", help="Serve a page that follows the runs, and write none.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --serve; 0: a free one.")] = 8600,
    host: Annotated[str, typer.Option(help="Address of --serve.")] = "127.0.0.1",
    as_json: Annotated[bool, typer.Option("--json", help="Tell what was written as JSON.")] = False,
) -> None:
    """Show one run, or several beside one another, on a page that needs no network.

    Example: gan-distributed report runs/faces faces.html
    """
    from gan_distributed.reporting.making import Maker

    budget_bytes = round(max_mb * 1e6)
    if serve:
        from gan_distributed.reporting.live import LivePage, serve_page

        _check_runs(places)
        with contextlib.closing(LivePage(Maker(places, data, budget_bytes, 0.0, command.say), host, port)) as live:
            command.say(f"serving {live.url}; Ctrl-C ends it")
            serve_page(live)
        return
    *runs, out = places
    if not out.endswith(_OUT_END) or not runs:
        raise InputError(
            f"{out}: give runs, then the page to write, whose name ends in {_OUT_END}; or runs and --serve"
        )
    _check_runs(runs)
    from gan_distributed.data import storage

    page = Maker(runs, data, budget_bytes, search_s, command.say).page()
    storage.write(out, page)
    facts = {"out": out, "bytes": len(page), "runs": runs}
    sys.stdout.write((json.dumps(facts) if as_json else f"{out}  ({len(page) / 1e6:.1f} MB)") + "\n")


def _check_runs(runs: list[str]) -> None:
    pages = [run for run in runs if run.endswith(_OUT_END)]
    if pages:
        raise InputError(f"{pages[0]}: not a run; give OUTPUT/RUN_ID, and with --serve no page to write")
    if len(set(runs)) < len(runs):
        raise InputError("a run is given twice; give each once")


if __name__ == "__main__":
    command.run(report)
