"""Planted errors: each is found, in one line that names it; the sound job breaks no rule."""

import copy

import pytest
from kube import ROOT, SOME_VERSIONS, core_mistakes, ray_job_mistakes
from submitting import PLACES, RECIPE, submitted

from gan_distributed.deployment.manifest_text import from_text
from gan_distributed.deployment.quantities import bytes_of
from gan_distributed.deployment.rules import violations
from gan_distributed.errors import InputError


def sound():
    return from_text((ROOT / "k8s" / "train.yaml").read_text(), "train.yaml")


JOB = sound()[-1]
CLUSTER = ("spec", "rayClusterSpec")
HEAD = (*CLUSTER, "headGroupSpec", "template", "spec")
WORKERS = (*CLUSTER, "workerGroupSpecs", 0)
POD = (*WORKERS, "template", "spec")
ENTRYPOINT = JOB["spec"]["entrypoint"]

PLANTED = {
    "image.*tag other than latest": [((*HEAD, "containers", 0, "image"), "r.io/gan:latest")],
    "give a tag": [((*POD, "containers", 0, "image"), "r.io:5000/gan")],
    "one image": [((*POD, "containers", 0, "image"), "r.io/gan:2")],
    "pods x GPUs give 4": [((*WORKERS, name), 4) for name in ("replicas", "minReplicas", "maxReplicas")],
    "replicas 8 must be between": [((*WORKERS, "minReplicas"), 9)],
    "80 workers are more than data.num_lanes 64": [(("spec", "entrypoint"), ENTRYPOINT.replace("s 8", "s 80"))],
    "terminationGracePeriodSeconds 30 must be more than the 30 s": [((*POD, "terminationGracePeriodSeconds"), 30)],
    "must end last": [((*HEAD, "terminationGracePeriodSeconds"), 50)],
    "stop_grace_s 25 must be less": [
        ((*HEAD, "terminationGracePeriodSeconds"), 20),
        ((*HEAD, "containers", 0, "env", 0, "value"), "10"),
    ],
    "requests and limits": [((*POD, "containers", 0, "resources", "requests", "cpu"), "1")],
    "read-only": [((*POD, "containers", 0, "securityContext", "readOnlyRootFilesystem"), False)],
    "seccompProfile": [((*HEAD, "securityContext", "seccompProfile"), {"type": "Unconfined"})],
    "sizeLimit must be at /dev/shm": [((*POD, "volumes", 0, "emptyDir"), {"medium": "Memory"})],
    "object-store-memory .* is more than": [((*WORKERS, "rayStartParams", "object-store-memory"), "9000000000")],
    "count as memory": [((*POD, "volumes", 0, "emptyDir", "sizeLimit"), "24Gi")],
    "less than 1 x": [((*POD, "containers", 0, "resources", kind, "memory"), "4Gi") for kind in ("requests", "limits")],
    "shutdownAfterJobFinishes true": [(("spec", "suspend"), True), (("spec", "shutdownAfterJobFinishes"), False)],
    "exclude each other": [(("spec", "deletionStrategy"), {"deletionRules": []})],
    "must not be negative": [(("spec", "backoffLimit"), -1)],
    "managedBy": [(("spec", "managedBy"), "me")],
    "authOptions.mode must be token": [((*CLUSTER, "authOptions", "mode"), "disabled")],
    "needs rayVersion 2.52": [((*CLUSTER, "rayVersion"), "2.51.0")],
    "activeDeadlineSeconds": [(("spec", "activeDeadlineSeconds"), None)],
    "read by a shell": [(("spec", "entrypoint"), ENTRYPOINT + " --set 'loss.r1_gamma={start: 1}'")],
    "disk of its own": [(("spec", "entrypoint"), ENTRYPOINT.replace("gs://BUCKET/runs", "/data/runs"))],
    "lives in one process": [(("spec", "entrypoint"), ENTRYPOINT.replace("gs://BUCKET/runs", "memory://runs"))],
    "--workers must say": [(("spec", "entrypoint"), ENTRYPOINT.replace("--workers 8", ""))],
    "cluster.workers 3": [(("spec", "entrypoint"), ENTRYPOINT + " --set cluster.workers=3")],
    "is no loss": [(("spec", "entrypoint"), ENTRYPOINT + " --set loss.name=bse")],
    "metrics.port 9500: the pods name 9400": [(("spec", "entrypoint"), ENTRYPOINT + " --set metrics.port=9500")],
    "metrics.controller_port 9391: the pods": [
        (("spec", "entrypoint"), ENTRYPOINT + " --set metrics.controller_port=9391")
    ],
    "at most 47": [(("metadata", "name"), "x" * 48)],
    "from a letter on": [(("metadata", "name"), "1-run")],
}


def planted(changes):
    documents = sound()
    for path, value in changes:
        place = documents[-1]
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    return documents


def test_the_sound_job_breaks_no_rule():
    assert violations(sound()) == []


@pytest.mark.parametrize(("told", "changes"), PLANTED.items(), ids=PLANTED)
def test_planted_errors_are_found(told, changes):
    import re

    lines = violations(planted(changes))
    assert any(re.search(told, line) for line in lines), lines
    assert all("\n" not in line for line in lines)


def test_nothing_without_a_job():
    assert violations(sound()[:-1]) == ["there is no RayJob among the documents"]


def test_schemas_find_misspelt_fields():
    """The judges of the other tests can fail: misspelt fields on every level are found."""
    documents = copy.deepcopy(sound())
    documents[-1]["spec"]["backofLimit"] = 1
    documents[-1]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["tolerations"][0]["efect"] = "x"
    documents[-1]["spec"]["ttlSecondsAfterFinished"] = "ten"
    documents[2]["spec"]["policyType"] = ["Ingress"]
    assert len(core_mistakes(documents, SOME_VERSIONS[-1])) == 2
    assert len(ray_job_mistakes(documents)) == 3


@pytest.mark.parametrize(("text", "number"), [("16Gi", 16 * 2**30), ("2560Mi", 2560 * 2**20), ("1.5G", 15 * 10**8)])
def test_quantities(text, number):
    assert bytes_of(text) == number


def test_a_quantity_that_is_none():
    with pytest.raises(InputError, match="16Gi"):
        bytes_of("16 GB")


def test_pods_without_room_are_refused_with_the_number(monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [RECIPE, *PLACES, "--workers", "2", "--gpus-per-worker", "4"]
    refused = submitted(*words, "--memory-gib", "20")
    assert refused.code == 2
    assert refused.stdout == ""
    assert "give --memory-gib 24" in refused.stderr
    assert submitted(*words, "--memory-gib", "24").code == 0
