"""Judges of manifests: Kubernetes' own schemas, the RayJob definition, and kustomize."""

import functools
import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

ROOT = Path(__file__).parents[2]
VERSIONS = [version for version in dict.fromkeys(all_versions()) if tuple(map(int, version.split(".")[:2])) >= (1, 27)]
# The oldest and the newest.
SOME_VERSIONS = [VERSIONS[0], VERSIONS[-1]]
_DEFINITION = "shared/research/kuberay_crd/ray.io_rayjobs.v1.7.0.yaml.gz"


def core_mistakes(documents: list[dict[str, Any]], version: str) -> list[str]:
    """What a version of Kubernetes finds wrong with its own kinds, and with the pods inside a RayJob."""
    mistakes = []
    for document in [each for each in documents if each["kind"] != "RayJob"] + pods_of(documents):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            mistakes.append(f"{document['kind']} {'/'.join(map(str, error.path))}: {error.message}")
    return mistakes


def pods_of(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pods that a RayJob's templates are for."""
    pods = []
    for job in ray_jobs(documents):
        cluster = job["spec"]["rayClusterSpec"]
        templates = [cluster["headGroupSpec"]["template"], job["spec"]["submitterPodTemplate"]]
        templates += [group["template"] for group in cluster["workerGroupSpecs"]]
        pods += [{"apiVersion": "v1", "kind": "Pod", **template} for template in templates]
    return pods


def ray_jobs(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in documents if each["kind"] == "RayJob"]


def ray_job_mistakes(documents: list[dict[str, Any]]) -> list[str]:
    """What the definition of RayJob, read strictly, finds wrong; skips the test where it is not there."""
    judge = _ray_job_judge()
    if judge is None:
        pytest.skip(f"the definition of RayJob is not here: {_DEFINITION} beside the checkout")
    return [
        f"{'/'.join(map(str, error.path))}: {error.message}"
        for job in ray_jobs(documents)
        for error in judge.iter_errors(job)
    ]


@functools.cache
def _ray_job_judge() -> jsonschema.Draft202012Validator | None:
    place = next((folder / _DEFINITION for folder in ROOT.parents if (folder / _DEFINITION).exists()), None)
    if place is None:
        return None
    definition = yaml.load(gzip.decompress(place.read_bytes()), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = next(each for each in definition["spec"]["versions"] if each["name"] == "v1")
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def _strict(schema: Any) -> Any:
    """A structural schema of Kubernetes as a JSON schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {
        key: {name: _strict(each) for name, each in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
        if key not in ("description", "format", "default", "nullable") and not key.startswith("x-kubernetes-")
    }
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        made["additionalProperties"] = False
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


def kustomized(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send; skips the test where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    ended = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))
