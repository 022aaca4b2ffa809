"""What a job's documents must be to one another, beyond what a schema says: each violation as one line.

They are read from the documents, not from options, so that what a patch made of them is held to the same rules.
"""

import re
from collections.abc import Iterator

from gan_distributed.deployment.command_rules import command_violations
from gan_distributed.deployment.groups import Document, Group, groups_of
from gan_distributed.deployment.quantities import bytes_of

# KubeRay appends up to 16 characters to a RayJob's name for its cluster and services, of 63 there may be.
_LONGEST_NAME = 47
_MANAGERS = ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")


def violations(documents: list[Document]) -> list[str]:
    """All that is wrong with the jobs among the documents, one line each."""
    jobs = [each for each in documents if each.get("kind") == "RayJob"]
    if not jobs:
        return ["there is no RayJob among the documents"]
    return [f"RayJob {job['metadata']['name']}: {line}" for job in jobs for line in _of_job(job, documents)]


def _of_job(job: Document, documents: list[Document]) -> Iterator[str]:
    yield from _name(job["metadata"]["name"])
    yield from _operator(job)
    groups = groups_of(job["spec"])
    for group in groups:
        yield from _group(group)
    yield from _one_image(job["spec"], groups)
    yield from _order_of_ends(groups)
    yield from command_violations(job["spec"]["entrypoint"], groups, documents)


def _name(name: str) -> Iterator[str]:
    if len(name) > _LONGEST_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield (
            f"the name must be at most {_LONGEST_NAME} lower-case letters, digits and -, from a letter on; give "
            "another --name"
        )


def _operator(job: Document) -> Iterator[str]:
    """What KubeRay refuses when it reads a RayJob, and the rules in the definition that a schema cannot hold."""
    spec, cluster = job["spec"], job["spec"].get("rayClusterSpec", {})
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "suspend needs shutdownAfterJobFinishes true"
    if spec.get("ttlSecondsAfterFinished", 0) < 0 or spec.get("backoffLimit", 0) < 0:
        yield "ttlSecondsAfterFinished and backoffLimit must not be negative"
    if spec.get("deletionStrategy") is not None and spec.get("shutdownAfterJobFinishes"):
        yield "deletionStrategy and shutdownAfterJobFinishes exclude each other"
    if spec.get("managedBy", _MANAGERS[0]) not in _MANAGERS:
        yield f"managedBy must be {' or '.join(_MANAGERS)}"
    if "activeDeadlineSeconds" not in spec or "preRunningDeadlineSeconds" not in spec:
        yield "activeDeadlineSeconds and preRunningDeadlineSeconds must be set, else a stuck job keeps its nodes"
    version = tuple(int(part) for part in re.findall(r"\d+", str(cluster.get("rayVersion", "0")))[:2])
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "authOptions.mode must be token, else whoever reaches the head runs what he likes"
    elif version < (2, 52):
        yield f"authOptions.mode token needs rayVersion 2.52 or later, found {cluster.get('rayVersion')}"


def _group(group: Group) -> Iterator[str]:
    where, container = f"{group.name} pods", group.container
    if container.get("resources", {}).get("requests") != group.limits or not group.limits:
        yield f"{where}: requests and limits must be equal, so that nothing is taken from a running job"
    fewest, most = group.spec.get("minReplicas", group.replicas), group.spec.get("maxReplicas", group.replicas)
    if not fewest <= group.replicas <= most:
        yield f"{where}: replicas {group.replicas} must be between minReplicas {fewest} and maxReplicas {most}"
    pod, own = group.pod.get("securityContext", {}), container.get("securityContext", {})
    if not pod.get("runAsNonRoot") or pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: runAsNonRoot true and seccompProfile RuntimeDefault must be set"
    if (
        own.get("allowPrivilegeEscalation") is not False
        or not own.get("readOnlyRootFilesystem")
        or own.get("capabilities", {}).get("drop") != ["ALL"]
    ):
        yield f"{where}: the root must be read-only, privilege escalation off and all capabilities dropped"
    yield from _shared_memory(group)
    environment = {each["name"]: each.get("value") for each in container.get("env", [])}
    drain_s = float(environment.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") or 30)
    if group.grace_s <= drain_s:
        yield (
            f"{where}: terminationGracePeriodSeconds {group.grace_s} must be more than the {drain_s:g} s of "
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, else they are killed while they save"
        )


def _shared_memory(group: Group) -> Iterator[str]:
    volume = group.volume("/dev/shm")  # noqa: S108
    size = None if volume is None else volume.get("emptyDir", {}).get("sizeLimit")
    if size is None:
        yield f"{group.name} pods: a memory volume with a sizeLimit must be at /dev/shm, which is 64 MiB without"
        return
    store = int(group.spec.get("rayStartParams", {}).get("object-store-memory", 0))
    if store > bytes_of(size):
        yield f"{group.name} pods: object-store-memory {store} is more than the {size} of /dev/shm"
    if "memory" in group.limits and bytes_of(size) >= bytes_of(group.limits["memory"]):
        yield f"{group.name} pods: the {size} of /dev/shm count as memory, of which there are {group.limits['memory']}"


def _one_image(spec: Document, groups: list[Group]) -> Iterator[str]:
    pods = [group.pod for group in groups]
    if "submitterPodTemplate" in spec:
        pods.append(spec["submitterPodTemplate"]["spec"])
    images = sorted({each["image"] for pod in pods for each in pod["containers"] + pod.get("initContainers", [])})
    if len(images) > 1:
        yield f"all pods must have one image, found {', '.join(images)}"
    for image in images:
        name, _, digest = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if not digest and tag in ("", "latest"):
            yield f"image {image}: give a tag other than latest, or a digest, else a retry may run another program"


def _order_of_ends(groups: list[Group]) -> Iterator[str]:
    head = groups[0]
    for group in groups[1:]:
        if group.grace_s > head.grace_s:
            yield (
                f"{group.name} pods: terminationGracePeriodSeconds {group.grace_s} is more than the head's "
                f"{head.grace_s}, which must end last"
            )
