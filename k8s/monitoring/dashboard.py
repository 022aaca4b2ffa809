"""Writes dashboard.json, the Grafana board of training and of prepare: python k8s/monitoring/dashboard.py

The panels stand in panels.py; the JSON goes through Grafana's own schema, which drops what it does not know.
"""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import ROWS, Panel

FILE = Path(__file__).parent / "dashboard.json"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# A screen is 24 wide.
_WIDTH, _HEIGHT = 6, 7
_LAST = {"reduceOptions": {"calcs": ["lastNotNull"], "values": False}}
_LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
_OPTIONS: dict[str, dict[str, Any]] = {
    "gauge": _LAST,
    "stat": _LAST,
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "heatmap": {"calculate": False, "tooltip": {"show": True}},
}


def board() -> dict[str, Any]:
    """The board as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append({"type": "row", "id": len(panels) + 1, "title": title, "collapsed": False, "gridPos": place})
        top += 1
        for index, panel in enumerate(row):
            line, column = divmod(index, 24 // _WIDTH)
            place = {"x": column * _WIDTH, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, place))
        top += _HEIGHT * -(-len(row) // (24 // _WIDTH))
    return {
        "uid": "gan-distributed",
        "title": "gan-distributed",
        "description": "Training of GANs: is it well, is it learning, is it fast, what does it cost",
        "tags": ["gan-distributed"],
        "timezone": "browser",
        "editable": True,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    chosen = 'namespace=~"$namespace", run=~"$run"'
    targets = [
        {"refId": chr(ord("A") + index), "expr": query.replace("@", chosen), "legendFormat": legend}
        for index, (query, legend) in enumerate(panel.queries)
    ]
    if panel.kind == "heatmap":
        targets[0] |= {"format": "heatmap"}
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "gauge":
        defaults |= {"min": 0, "max": 100}
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [target | {"datasource": _SOURCE} for target in targets],
    }


def _variables() -> list[dict[str, Any]]:
    anything = '{__name__=~"gan_world_size|gan_prepare_images_total"'
    queries = {
        "namespace": f"label_values({anything}}}, namespace)",
        "run": f'label_values({anything}, namespace=~"$namespace"}}, run)',
    }
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}
    return [source] + [
        {
            "type": "query",
            "name": name,
            "query": query,
            "datasource": _SOURCE,
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }
        for name, query in queries.items()
    ]


def encoded(content: dict[str, Any]) -> str:
    """The text of a board, by Grafana's schema."""
    register_default_plugins()
    through = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(content)))
    return json.dumps(_without_nulls(through), indent=1) + "\n"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    FILE.write_text(encoded(board()))
