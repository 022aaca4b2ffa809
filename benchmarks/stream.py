"""The data stream against the limits of the machine and against its peers, in one run; prints docs/data.md's table.

    python benchmarks/stream.py [--data DIR] [--only SUBSTR] [--quick] [--peer-python PATH] [--ffcv-python PATH]

Contestants (stream_peers/) are processes that work in turn, a window or a cold epoch each; a figure (stream_figures/)
is a small function that compares medians. Where others took more than 10% of the cores' time during a run, it is done
again, a few times; the table says how often. A peer that is not installed is left out with the reason; README.md beside
this says how to install them. The data is made once, with all formats, and stays.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from stream_figures import local, order, remote
from stream_figures.bench import Bench, Pythons
from stream_figures.contest import LeftOutError, Rules
from stream_figures.machine import description
from stream_figures.rows import Figure, Row, markdown

_FIGURES = (*local.FIGURES, *remote.FIGURES, *order.FIGURES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "gan-distributed-stream-benchmark"
    parser.add_argument("--data", type=Path, default=default, help=f"where the data is made and kept; {default}")
    parser.add_argument("--only", default="", metavar="SUBSTR", help="only figures with this in their name")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the images, few short rounds: a check, no figures"
    )
    parser.add_argument("--rounds", type=int, default=7, help="runs of each contestant")
    parser.add_argument("--max-redos", type=int, default=7, help="disturbed runs of a contestant that are done again")
    parser.add_argument("--peer-python", default=sys.executable, help="Python with the `peers` extra; this one")
    parser.add_argument("--ffcv-python", help="Python with FFCV; that of --peer-python")
    parser.add_argument("--json", type=Path, help="where the JSON lines go; DATA/results-TIME.jsonl")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    lines = options.json or options.data / f"results-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    if options.quick:
        rules = Rules(rounds=2, window_s=0.5, max_redos=1)
    else:
        rules = Rules(rounds=options.rounds, max_redos=options.max_redos)
    chosen = [figure for figure in _FIGURES if options.only.lower() in figure.name.lower()]
    with tempfile.TemporaryDirectory() as scratch, lines.open("a") as raw, lines.with_suffix(".log").open("a+") as log:
        # Contestants have another working directory. Links are kept: they make a venv's Python what it is.
        peers, ffcv = (
            str(Path(path).absolute()) for path in (options.peer_python, options.ffcv_python or options.peer_python)
        )
        pythons = Pythons(peers, ffcv)
        bench = Bench(options.data.absolute(), Path(scratch), pythons, rules, options.quick, log, raw)
        print(json.dumps({"machine": description(), "rules": vars(rules), "is_quick": options.quick}), file=raw)
        rows = []
        for figure in chosen:
            bench.tell(figure.name)
            rows.append(_measured(figure, bench))
            print(json.dumps(rows[-1].to_record()), file=raw, flush=True)
    print(_preface(rules, options.quick), markdown(rows), sep="\n\n")
    print(f"\nEvery run: {lines}", file=sys.stderr)


def _preface(rules: Rules, is_quick: bool) -> str:
    quick = " A quick run: it checks the benchmark, its figures mean nothing." if is_quick else ""
    return (
        f"### Data stream, measured\n\nOn {description()}, {time.strftime('%Y-%m-%d')}; batch 128, one thread within "
        f"PyTorch and NumPy. Medians of runs in turn, windows of {rules.window_s:g} s or whole epochs. Runs in which "
        f"others took more than {rules.max_disturbed:.0%} of the cores' time were done again, at most "
        f"{rules.max_redos} times a contestant; those that count although they were disturbed are told.{quick}"
    )


def _measured(figure: Figure, bench: Bench) -> Row:
    try:
        return Row(figure, figure.measure(bench))
    except LeftOutError as error:
        bench.tell(f"  left out: {error}")
        return Row(figure, left_out=str(error))


if __name__ == "__main__":
    main()
