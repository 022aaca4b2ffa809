"""The groups of equal pods of a RayJob, as its documents say."""

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """A group of equal Ray pods.   replicas: 1 for the head."""

    name: str
    spec: Document
    replicas: int
    pod: Document

    @property
    def container(self) -> Document:
        """The one that Ray runs in."""
        first: Document = self.pod["containers"][0]
        return first

    @property
    def limits(self) -> dict[str, str]:
        """What it is limited to."""
        return dict(self.container.get("resources", {}).get("limits", {}))

    @property
    def gpus(self) -> int:
        """GPUs of one pod."""
        return int(self.limits.get("nvidia.com/gpu", 0))

    @property
    def grace_s(self) -> int:
        """From SIGTERM to SIGKILL; Kubernetes' own default is 30."""
        return int(self.pod.get("terminationGracePeriodSeconds", 30))

    def volume(self, path: str) -> Document | None:
        """The volume that holds a path, None for the image's own disk."""
        mounts = [
            mount
            for mount in self.container.get("volumeMounts", [])
            if path == mount["mountPath"] or path.startswith(mount["mountPath"].rstrip("/") + "/")
        ]
        if not mounts:
            return None
        name = max(mounts, key=lambda mount: len(mount["mountPath"]))["name"]
        return next((volume for volume in self.pod.get("volumes", []) if volume["name"] == name), None)


def groups_of(spec: Document) -> list[Group]:
    """The head first, then the groups of workers."""
    cluster = spec["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    found = [Group("head", head, 1, head["template"]["spec"])]
    found.extend(
        Group(group["groupName"], group, group.get("replicas", 0), group["template"]["spec"])
        for group in cluster.get("workerGroupSpecs", [])
    )
    return found
