"""What a job on a cluster is: its command, its recipe, and the pods that it gets. One place for each number."""

import shlex
from dataclasses import dataclass, field

# The Ray of the image and of pyproject.toml (tests/deployment/test_image.py holds the three together).
RAY_VERSION = "2.60.0"
ACCOUNT = "gan-distributed"
CONFIG_FOLDER = "/etc/gan"
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class PodSize:
    """What one pod asks for, and is limited to.   shm_gib: of its memory, for Ray's object store and NCCL."""

    cpus: int
    memory_gib: int
    gpus: int = 0
    shm_gib: int = 2

    @property
    def object_store_bytes(self) -> int:
        """Ray's share of the shared memory; the rows of a batch never pass through it."""
        return self.shm_gib * 2**30 // 2


@dataclass(frozen=True)
class Deadlines:
    """Times in seconds. drain < worker's grace <= head's grace: workers save, then the driver, then the head ends."""

    drain: int = 30
    worker_grace: int = 60
    head_grace: int = 90
    # From `ray job stop` to the driver's end: time for a last checkpoint.
    stop: int = 60
    # Until all pods run: time enough for nodes to be made.
    start: int = 1800
    whole: int = 3 * 86400
    # The pods stay so long after the end, for a last look and a last scrape.
    keep: int = 600


# Google gives pods of a spot node 15 s from the notice to the end, other clouds at least as much.
SPOT_DEADLINES = Deadlines(drain=10, worker_grace=15)
# The head holds the driver and Ray's own processes; with 2 GiB less it was reported killed for memory.
HEAD_SIZE = PodSize(cpus=2, memory_gib=8, shm_gib=1)
SUBMITTER_SIZE = PodSize(cpus=1, memory_gib=1)
# A node with one L4 and 8 CPUs has room for it.
GPU_SIZE = PodSize(cpus=7, memory_gib=24, gpus=1)
CPU_SIZE = PodSize(cpus=4, memory_gib=12)
RETRIES = 3


@dataclass(frozen=True)
class Job:
    """A job on a Ray cluster of its own.

    name: of its RayJob; all else is named after it.   words: its command.   files: the text of each file beside it.
    queue: Kueue's.   google_account: the service account whose rights its pods have.
    """

    name: str
    component: str
    image: str
    words: tuple[str, ...]
    num_pods: int
    pod: PodSize
    files: dict[str, str] = field(default_factory=dict)
    queue: str | None = None
    spot: bool = False
    google_account: str | None = None
    deadlines: Deadlines = Deadlines()

    @property
    def entrypoint(self) -> str:
        """The command as one line of shell."""
        return shlex.join(self.words)

    @property
    def ports(self) -> int:
        """Metrics endpoints of a worker's pod, one a rank."""
        return max(1, self.pod.gpus)


def pod_of(gpus: int, cpus: int | None, memory_gib: int | None) -> PodSize:
    """A worker's pod of so many GPUs, 0 for none; cpus and memory_gib of the whole pod, None: by its GPUs."""
    unit = GPU_SIZE if gpus else CPU_SIZE
    times = max(1, gpus)
    return PodSize(
        cpus=unit.cpus * times if cpus is None else cpus,
        memory_gib=unit.memory_gib * times if memory_gib is None else memory_gib,
        gpus=gpus,
        shm_gib=unit.shm_gib * times,
    )
