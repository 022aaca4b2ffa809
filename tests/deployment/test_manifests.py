"""k8s/: what `submit` renders, valid for Kubernetes and KubeRay as it stands, in every variant."""

import re
import shlex

import pytest
from kube import ROOT, SOME_VERSIONS, VERSIONS, core_mistakes, kustomized, pods_of, ray_job_mistakes, ray_jobs
from submitting import submitted

from gan_distributed.deployment.manifest_text import from_text
from gan_distributed.deployment.rules import violations

OVERLAYS = ["gke-spot", "kueue", "multi-node", "minimal-cpu"]
FILES = ["train.yaml", "prepare.yaml"]


def read(name):
    return from_text((ROOT / "k8s" / name).read_text(), name)


def made_by():
    """The command of `make manifests` for each file."""
    rule = re.search(r"^manifests:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    commands = rule.replace("\\\n", " ").strip().splitlines()
    for line in commands:
        command, _, place = line.strip().partition(" >")
        yield place, shlex.split(command)[2:]


@pytest.fixture(scope="module")
def variants():
    return {name: kustomized(ROOT / "k8s" / "overlays" / name) for name in OVERLAYS}


def test_files_are_what_submit_renders(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = dict(made_by())
    assert set(found) == {"k8s/base/train.yaml", "k8s/prepare.yaml"}
    for place, words in found.items():
        ended = submitted(*words)
        assert ended.code == 0, ended.stderr
        assert ended.stdout == (ROOT / place).read_text(), f"{place} is another; run `make manifests`"


@pytest.mark.parametrize("name", FILES)
def test_files_are_valid(name):
    documents = read(name)
    assert violations(documents) == []
    assert ray_job_mistakes(documents) == []


@pytest.mark.parametrize("version", SOME_VERSIONS)
def test_core_kinds_are_valid(version):
    assert core_mistakes(read("train.yaml"), version) == []


def test_variants_are_valid(variants):
    for name, documents in variants.items():
        assert violations(documents) == [], name
        assert ray_job_mistakes(documents) == [], name


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_all_are_valid_in_every_version(version, variants):
    for documents in [*map(read, FILES), *variants.values()]:
        assert core_mistakes(documents, version) == []


def test_what_watches_is_valid_and_finds_the_pods_of_every_variant(variants):
    """k8s/monitoring, as kubectl makes it: the board whole, the alerts, and a monitor of ports that pods name."""
    documents = kustomized(ROOT / "k8s" / "monitoring")
    by_kind = {each["kind"]: each for each in documents}
    assert sorted(by_kind) == ["ConfigMap", "PodMonitor", "PrometheusRule"]
    board = by_kind["ConfigMap"]
    for version in SOME_VERSIONS:
        assert core_mistakes([board], version) == []
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["data"] == {"gan-distributed.json": (ROOT / "k8s" / "monitoring" / "dashboard.json").read_text()}
    assert by_kind["PrometheusRule"] == read("monitoring/alerts.yaml")[0]
    monitor = by_kind["PodMonitor"]["spec"]
    watched = [each["port"] for each in monitor["podMetricsEndpoints"]]
    assert len(watched) == len(set(watched))
    for made in [*map(read, FILES), *variants.values()]:
        head, _, *workers = pods_of(made)
        for pod in (head, *workers):
            assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            served = {port["name"] for port in pod["spec"]["containers"][0]["ports"] if port["name"][:4] == "gan-"}
            assert served <= set(watched)


def test_the_spot_variant_is_what_submit_renders(monkeypatch, variants):
    monkeypatch.chdir(ROOT)
    words = next(words for place, words in made_by() if "train" in place)
    by_kind = {each["kind"]: each for each in submitted(*words, "--spot").documents}
    assert {each["kind"]: each for each in variants["gke-spot"]} == by_kind


def test_the_queued_variant_is_what_submit_renders(monkeypatch, variants):
    monkeypatch.chdir(ROOT)
    words = next(words for place, words in made_by() if "train" in place)
    by_kind = {each["kind"]: each for each in submitted(*words, "--queue", "gan").documents}
    assert {each["kind"]: each for each in variants["kueue"]} == by_kind


def test_the_small_variant_asks_for_no_gpu_and_no_bucket(variants):
    text = str(variants["minimal-cpu"])
    assert "nvidia.com/gpu" not in text
    assert "gs://" not in text
    assert (ROOT / "jobs" / "demo.yaml").exists()
    assert "COPY jobs /opt/jobs" in (ROOT / "Dockerfile").read_text()


def test_a_renamed_job_finds_its_files_and_account(tmp_path):
    """kustomize renames inside a RayJob only what references.yaml lists."""
    for name in ("train.yaml", "kustomization.yaml", "references.yaml"):
        (tmp_path / name).write_text((ROOT / "k8s" / "base" / name).read_text())
    with (tmp_path / "kustomization.yaml").open("a") as file:
        file.write("namePrefix: my-\nimages: [{name: registry.example.com/gan-distributed, newTag: 9.9.9}]\n")
    documents = kustomized(tmp_path)
    names = {each["kind"]: each["metadata"]["name"] for each in documents}
    pods = pods_of(documents)
    assert len(pods) == 3
    for pod in pods:
        assert pod["spec"]["serviceAccountName"] == names["ServiceAccount"] == "my-gan-distributed"
        assert [each["image"] for each in pod["spec"]["containers"]] == ["registry.example.com/gan-distributed:9.9.9"]
        maps = [each["configMap"]["name"] for each in pod["spec"]["volumes"] if "configMap" in each]
        assert set(maps) <= {names["ConfigMap"]}


def test_pods_are_what_the_restricted_standard_asks(variants):
    """Kubernetes' pod security standard `restricted`, restated."""
    for documents in [*map(read, FILES), *variants.values()]:
        for pod in pods_of(documents):
            spec = pod["spec"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
            assert all({"emptyDir", "configMap", "persistentVolumeClaim"} & set(each) for each in spec["volumes"])
            for container in spec["containers"] + spec.get("initContainers", []):
                security = container["securityContext"]
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}
                assert security["readOnlyRootFilesystem"] is True
                assert container["resources"]["requests"] == container["resources"]["limits"]
                assert not any("hostPort" in port for port in container.get("ports", []))


def test_all_that_is_written_lies_in_volumes():
    """The root is read-only: Ray writes below /tmp, libraries below HOME, the object store below /dev/shm."""
    for job in ray_jobs(read("train.yaml")):
        for group in [
            job["spec"]["rayClusterSpec"]["headGroupSpec"],
            *job["spec"]["rayClusterSpec"]["workerGroupSpecs"],
        ]:
            container = group["template"]["spec"]["containers"][0]
            home = next(each["value"] for each in container["env"] if each["name"] == "HOME")
            mounted = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
            assert {"/tmp", "/dev/shm", home} <= mounted
