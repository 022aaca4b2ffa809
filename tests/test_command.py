"""The command line itself: help without torch, one clear line for an error."""

import json
import sys

import pytest
from commands import run_new as run

VERBS = ["prepare", "train", "generate", "submit", "plan", "schema"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_needs_neither_torch_nor_ray(verb):
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['gan-distributed', '{verb}', '--help']\n"
        "try:\n    runpy.run_module('gan_distributed', run_name='__main__')\n"
        "except SystemExit as end:\n    code = end.code\n"
        "slow = {'torch', 'ray', 'torchvision'} & sys.modules.keys()\n"
        "sys.exit(f'imported {slow}' if slow else code)\n"
    )
    ended = run([sys.executable, "-c", program])
    assert ended.returncode == 0, ended.stderr
    assert f"gan-distributed {verb}" in ended.stdout


def test_schema_describes_the_sections():
    ended = run([sys.executable, "-m", "gan_distributed", "schema"])
    schema = json.loads(ended.stdout)
    assert "training" in schema["properties"]
    assert schema["$defs"]["AdamConfig"]["properties"]["beta1"]["description"]


def test_errors_are_one_line_on_stderr():
    ended = run([sys.executable, "-m", "gan_distributed", "train", "--config", "/nowhere.yaml"])
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: /nowhere.yaml: cannot be read")
    assert len(ended.stderr.splitlines()) == 1
