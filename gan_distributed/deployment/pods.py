"""The pods of a job: head, worker, submitter. All non-root on a read-only root, with what they write in volumes."""

from typing import Any

from gan_distributed.deployment.job import ACCOUNT, CONFIG_FOLDER, HEAD_SIZE, SUBMITTER_SIZE, Job, PodSize

Document = dict[str, Any]

USER = 1000
HOME = "/home/gan"
DASHBOARD_PORT = 8265
RAY_METRICS_PORT = 8080
DRIVER_METRICS_PORT = 9390
RANK_METRICS_PORT = 9400
# Nodes that may be taken away, as three clouds and Karpenter mark them.
_SPOT_NODES = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}


def head_pod(job: Job) -> Document:
    """The head: Ray's own processes and the driver, no training, never on a spot node: its end is the job's."""
    ports = _ports(
        {"gcs-server": 6379, "dashboard": DASHBOARD_PORT, "client": 10001, "metrics": RAY_METRICS_PORT}
        | {"gan-controller": DRIVER_METRICS_PORT}
    )
    environment = {
        "RAY_JOB_STOP_WAIT_TIME_S": str(job.deadlines.stop),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    }
    pod = _ray_pod(job, "ray-head", HEAD_SIZE, ports, environment, job.deadlines.head_grace)
    pod["spec"]["affinity"] = {"nodeAffinity": _nowhere_spot()}
    return pod


def worker_pod(job: Job) -> Document:
    """A worker: one training process a GPU, or one where there are none."""
    names = {f"gan-metrics{f'-{rank}' if rank else ''}": RANK_METRICS_PORT + rank for rank in range(job.ports)}
    pod = _ray_pod(
        job,
        "ray-worker",
        job.pod,
        _ports({"metrics": RAY_METRICS_PORT} | names),
        {"NCCL_DEBUG": "WARN"} if job.pod.gpus else {},
        job.deadlines.worker_grace,
    )
    tolerations = []
    if job.pod.gpus:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if job.spot:
        pod["spec"]["nodeSelector"] = {"cloud.google.com/gke-spot": "true"}
        tolerations.append(
            {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        )
    if tolerations:
        pod["spec"]["tolerations"] = tolerations
    return pod


def submitter_pod(job: Job) -> Document:
    """What hands the command to the head and follows its log; KubeRay fills in the command."""
    container = {
        "name": "ray-job-submitter",
        "image": job.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": _resources(SUBMITTER_SIZE),
        "securityContext": _container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": HOME}],  # noqa: S108
    }
    spec = _pod_spec(container, [_scratch("tmp", 1), _scratch("home", 1)])
    return {"metadata": {"labels": labels(job)}, "spec": {**spec, "restartPolicy": "Never"}}


def labels(job: Job) -> dict[str, str]:
    """By which all of a job's objects are found."""
    return {
        "app.kubernetes.io/name": "gan-distributed",
        "app.kubernetes.io/instance": job.name,
        "app.kubernetes.io/component": job.component,
    }


def _ray_pod(
    job: Job, name: str, size: PodSize, ports: list[Document], environment: dict[str, str], grace_s: int
) -> Document:
    environment = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(job.deadlines.drain), **environment}
    environment |= {"HOME": HOME, "RAY_USAGE_STATS_ENABLED": "0", "RAY_metric_cardinality_level": "low"}
    # An object an event, as collectors of logs read them.
    environment["GAN_DISTRIBUTED_LOG_FORMAT"] = "json"
    mounts = {"shm": "/dev/shm", "tmp": "/tmp", "home": HOME}  # noqa: S108 - Ray's sockets and logs
    volumes: list[Document] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{size.shm_gib}Gi"}},
        _scratch("tmp", 20),
        _scratch("home", 50),
    ]
    # The driver alone reads them.
    if job.files and name == "ray-head":
        mounts["config"] = CONFIG_FOLDER
        volumes.append({"name": "config", "configMap": {"name": job.name}})
    container = {
        "name": name,
        "image": job.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": ports,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": _resources(size),
        "securityContext": _container_security(),
        "volumeMounts": [
            {"name": key, "mountPath": path, **({"readOnly": True} if key == "config" else {})}
            for key, path in mounts.items()
        ],
    }
    metadata = {"labels": labels(job), "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}
    spec = {**_pod_spec(container, volumes), "terminationGracePeriodSeconds": grace_s}
    return {"metadata": metadata, "spec": spec}


def _pod_spec(container: Document, volumes: list[Document]) -> Document:
    return {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }


def _container_security() -> Document:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _resources(size: PodSize) -> Document:
    amounts = {"cpu": str(size.cpus), "memory": f"{size.memory_gib}Gi"}
    if size.gpus:
        amounts["nvidia.com/gpu"] = str(size.gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _ports(named: dict[str, int]) -> list[Document]:
    return [{"name": name, "containerPort": port} for name, port in named.items()]


def _scratch(name: str, gib: int) -> Document:
    return {"name": name, "emptyDir": {"sizeLimit": f"{gib}Gi"}}


def _nowhere_spot() -> Document:
    rules = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in _SPOT_NODES.items()]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": rules}]}}
