"""The alerts: promtool takes them, each fires and stays silent where it should, and each has a runbook."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALERTS = yaml.safe_load((ROOT / "k8s" / "monitoring" / "alerts.yaml").read_text())["spec"]["groups"]
CASES = Path(__file__).parent / "alerts_tests.yaml"
RULES = [rule for group in ALERTS for rule in group["rules"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The rules as Prometheus reads them, beside the cases."""
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": ALERTS}))
    (folder / "cases.yaml").write_text(CASES.read_text())
    return folder


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)


def test_promtool_takes_them(folder):
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(folder / "rules.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_each_fires_and_stays_silent(folder):
    tested = promtool("test", "rules", str(folder / "cases.yaml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    for rule in RULES:
        outcomes = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
        assert set(outcomes) == {True, False}, rule["alert"]


def test_each_has_a_runbook():
    headings = [line[4:] for line in (ROOT / "docs" / "operations.md").read_text().splitlines() if line[:4] == "### "]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["alert"] in headings
    assert [heading for heading in headings if heading.startswith("Gan")] == [rule["alert"] for rule in RULES]
