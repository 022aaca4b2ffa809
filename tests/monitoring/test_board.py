"""The board: as its script writes it, known to Grafana's schema, of metrics that exist; what needs a GPU, on a GPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from board import FILE, WITHOUT_DATA, put_in, queries
from servers import get

from gan_distributed.config import load_config
from gan_distributed.data.preparation.metrics import PreparationMetrics
from gan_distributed.training.metrics import ControllerMetrics, WorkerMetrics

FOLDER = FILE.parent
BOARD = json.loads(FILE.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(FOLDER))
    try:
        import dashboard

        yield dashboard
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def told():
    """What all processes can tell: {metric: type}."""
    config = load_config(None, {"run_id": "r", "metrics": {"host": "127.0.0.1", "port": 0, "controller_port": 0}})
    all_metrics = [
        WorkerMetrics(config.metrics, "r", 0, 0, lambda: 1.0),
        ControllerMetrics(config, lambda: False),
        PreparationMetrics("set", 0),
    ]
    texts = [get(f"http://127.0.0.1:{metrics.exposition.port}/metrics") for metrics in all_metrics]
    for metrics in all_metrics:
        metrics.close()
    # Told where metrics.phase_times is on.
    return {"gan_phase_seconds_total": "counter"} | dict(
        re.findall(r"^# TYPE (gan_\w+) (\w+)$", "".join(texts), re.MULTILINE)
    )


def test_the_file_is_what_its_script_writes(script):
    assert FILE.read_text() == script.encoded(script.board()), "run: python k8s/monitoring/dashboard.py"


def test_grafanas_schema_knows_every_field(script):
    assert FILE.read_text() == script.encoded(BOARD)
    assert contains(BOARD, script.board())


def contains(whole, part) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


def test_panels_do_not_lie_over_one_another():
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_every_query_is_of_the_chosen_runs_and_of_metrics_that_exist(told):
    for panel in PANELS:
        for target in panel["targets"]:
            names = set(re.findall(r"gan_\w+", target["expr"]))
            for name in names:
                assert re.sub(r"_(bucket|count|sum)$", "", name) in told, (panel["title"], name)
            assert target["expr"].count('namespace=~"$namespace"') >= len(names), panel["title"]
    variables = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert variables == ["datasource", "namespace", "run"]


def test_every_metric_has_its_place_on_the_board_or_in_an_alert(told):
    shown = json.dumps(BOARD) + (FOLDER / "alerts.yaml").read_text()
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"gan_\w+", shown)}
    # The others' rate, from the start of an attempt: for questions of one's own.
    assert set(told) - asked == {"gan_seen_images_total"}


def test_rates_are_of_counters_only(told):
    for name in re.findall(r"(?:rate|increase)\((gan_\w+)", json.dumps(BOARD) + (FOLDER / "alerts.yaml").read_text()):
        assert told[re.sub(r"_(bucket|count|sum)$", "", name)] in ("counter", "histogram"), name


def test_panels_without_data_in_a_plain_run_have_some_elsewhere(tmp_path):
    """As the ranks and NVIDIA's exporter tell it; the values are made up."""
    series = {
        'gan_phase_seconds_total{namespace="n", run="r", rank="0", phase="reduction"}': "0+15x5",
        'gan_gpu_memory_bytes{namespace="n", run="r", rank="0"}': "3e9x5",
        'DCGM_FI_DEV_GPU_UTIL{namespace="n", pod="p", gpu="0", modelName="NVIDIA H100 80GB HBM3"}': "80x5",
        'DCGM_FI_DEV_GPU_UTIL{namespace="n", pod="p", gpu="1", modelName="NVIDIA H100 80GB HBM3"}': "60x5",
    }
    wanted = {
        "Where the time goes": [('{namespace="n", run="r", rank="0", phase="reduction"}', 0.25)],
        "GPU memory": [('gan_gpu_memory_bytes{namespace="n", run="r", rank="0"}', 3e9)],
        "GPU use": [('{namespace="n", pod="p", gpu="0"}', 80), ('{namespace="n", pod="p", gpu="1"}', 60)],
    }
    assert set(wanted) == set(WITHOUT_DATA)
    cases = [
        {
            "expr": put_in(query).replace("[1m]", "[2m]"),
            "eval_time": "3m",
            "exp_samples": [{"labels": one, "value": value} for one, value in found],
        }
        for title, found in wanted.items()
        for query in queries()[title]
    ]
    listed = [{"series": name, "values": values} for name, values in series.items()]
    tests = {"tests": [{"interval": "1m", "input_series": listed, "promql_expr_test": cases}]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(tests))
    words = ["promtool", "test", "rules", str(tmp_path / "cases.yaml")]
    tested = subprocess.run(words, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_kustomize_makes_the_config_map_of_the_file():
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert generated["files"] == ["gan-distributed.json=dashboard.json"]
    assert generated["options"]["labels"]["grafana_dashboard"] == "1"
    for name in kustomization["resources"]:
        assert yaml.safe_load(Path(FOLDER, name).read_text())["apiVersion"] == "monitoring.coreos.com/v1"
