"""The documents of a job, in the order in which they are applied; the RayJob last."""

from gan_distributed.deployment.job import ACCOUNT, HEAD_SIZE, RAY_VERSION, RETRIES, Job
from gan_distributed.deployment.pods import (
    DASHBOARD_PORT,
    DRIVER_METRICS_PORT,
    RANK_METRICS_PORT,
    RAY_METRICS_PORT,
    Document,
    head_pod,
    labels,
    submitter_pod,
    worker_pod,
)


def documents(job: Job) -> list[Document]:
    """What `kubectl apply` takes."""
    found = [_account(job), _network(job), _disruption(job), _ray_job(job)]
    if job.files:
        found.insert(1, _named(job, "v1", "ConfigMap", data=dict(job.files)))
    return found


def _named(job: Job, version: str, kind: str, **rest: object) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": job.name, "labels": labels(job)}, **rest}


def _account(job: Job) -> Document:
    """One for all jobs, since rights on buckets are bound to its name."""
    metadata: Document = {"name": ACCOUNT, "labels": {"app.kubernetes.io/name": "gan-distributed"}}
    if job.google_account is not None:
        metadata["annotations"] = {"iam.gke.io/gcp-service-account": job.google_account}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}


def _network(job: Job) -> Document:
    """Who may talk to the pods: each other; the operator, which asks how the job is; Prometheus."""
    operator = _pods_anywhere("kuberay-operator")
    last = RANK_METRICS_PORT + job.ports - 1
    metrics = [{"protocol": "TCP", "port": port} for port in (RAY_METRICS_PORT, DRIVER_METRICS_PORT)]
    metrics.append({"protocol": "TCP", "port": RANK_METRICS_PORT, **({"endPort": last} if job.ports > 1 else {})})
    return _named(
        job,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        spec={
            "podSelector": {"matchLabels": _instance(job)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": _instance(job)}}]},
                {"from": [operator], "ports": [{"protocol": "TCP", "port": DASHBOARD_PORT}]},
                {"from": [_pods_anywhere("prometheus")], "ports": metrics},
            ],
        },
    )


def _instance(job: Job) -> dict[str, str]:
    return {"app.kubernetes.io/instance": job.name}


def _pods_anywhere(name: str) -> Document:
    return {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}


def _disruption(job: Job) -> Document:
    """Keeps the head from being moved; a worker that is moved saves and starts again elsewhere."""
    selector = {"matchLabels": {**_instance(job), "ray.io/node-type": "head"}}
    return _named(job, "policy/v1", "PodDisruptionBudget", spec={"minAvailable": 1, "selector": selector})


def _ray_job(job: Job) -> Document:
    document = _named(job, "ray.io/v1", "RayJob", spec=_spec(job))
    if job.queue is not None:
        document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = job.queue
        # Kueue starts it when there is room for all of its pods.
        document["spec"]["suspend"] = True
    return document


def _spec(job: Job) -> Document:
    return {
        "entrypoint": job.entrypoint,
        "submissionMode": "K8sJobMode",
        "submitterConfig": {"backoffLimit": RETRIES},
        "submitterPodTemplate": submitter_pod(job),
        # Each try is a new cluster that runs the same command, which goes on with the run of its name.
        "backoffLimit": RETRIES,
        "preRunningDeadlineSeconds": job.deadlines.start,
        "activeDeadlineSeconds": job.deadlines.whole,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": job.deadlines.keep,
        "rayClusterSpec": {
            "rayVersion": RAY_VERSION,
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {
                    # No task and no training on the head.
                    "num-cpus": "0",
                    # Reached from the submitter's pod.
                    "dashboard-host": "0.0.0.0",  # noqa: S104
                    "object-store-memory": str(HEAD_SIZE.object_store_bytes),
                },
                "template": head_pod(job),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": job.num_pods,
                    "minReplicas": job.num_pods,
                    "maxReplicas": job.num_pods,
                    "rayStartParams": {"object-store-memory": str(job.pod.object_store_bytes)},
                    "template": worker_pod(job),
                }
            ],
        },
    }
