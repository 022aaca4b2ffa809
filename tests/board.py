"""The Grafana board's queries, asked of a Prometheus as Grafana asks them."""

import json
import time
import urllib.parse
from pathlib import Path
from typing import Literal

from servers import get

FILE = Path(__file__).parents[1] / "k8s" / "monitoring" / "dashboard.json"
# Panels without data in a plain run without GPUs, and why; test_board.py shows that they have some elsewhere.
WITHOUT_DATA = {
    "Where the time goes": "told where metrics.phase_times is on",
    "GPU use": "told by NVIDIA's DCGM exporter",
    "GPU memory": "told by ranks that have a GPU",
}
# What Grafana puts in, for a test that is a few seconds old; the longest range would have no sample yet.
_RANGE = "1m"
_PUT_IN = {"$namespace": ".*", "$run": ".*", "$__rate_interval": _RANGE, "[1w:5m]": "[2m:1s]"}


def queries(board: dict | None = None) -> dict[str, list[str]]:
    """The expressions of each panel, with their variables put in."""
    board = board or json.loads(FILE.read_text())
    found = {}
    for panel in board["panels"]:
        if panel["type"] != "row":
            found[panel["title"]] = [put_in(target["expr"]) for target in panel["targets"]]
    return found


def put_in(expression: str) -> str:
    for variable, value in _PUT_IN.items():
        expression = expression.replace(variable, value)
    return expression


def check_board(server: str, part: Literal["preparing", "training"]) -> int:
    """Each panel's queries on a part of the work have data, but for those of panels that have none; how many have."""
    filled = [query for title, found in queries().items() if title not in WITHOUT_DATA for query in found]
    asked = [query for query in filled if ("gan_prepare_" in query) == (part == "preparing")]
    scraped(server, asked)
    return len(asked)


def scraped(server: str, asked: list[str]) -> list[float]:
    """The first value of each query that is a number, once Prometheus has one."""
    values = []
    for query in asked:
        deadline = time.monotonic() + 600
        while not (found := answer(server, query)):
            assert time.monotonic() < deadline, f"no value of {query}; targets: {troubles(server)}"
            time.sleep(0.3)
        values.append(found[0])
    return values


def troubles(server: str) -> dict[str, str]:
    """What Prometheus last met at each target."""
    targets = json.loads(get(f"{server}/api/v1/targets"))["data"]["activeTargets"]
    return {target["scrapeUrl"]: target["lastError"] or target["health"] for target in targets}


def answer(server: str, query: str) -> list[float]:
    """The values of a query now that are numbers; raises where Prometheus does not understand it."""
    found = json.loads(get(f"{server}/api/v1/query?query={urllib.parse.quote(query)}"))["data"]["result"]
    return [float(one["value"][1]) for one in found if one["value"][1] != "NaN"]
