"""What a job's command and recipe must be to the pods that they run in: each violation as one line."""

import itertools
import re
import shlex
from collections.abc import Iterator

from gan_distributed.config import Config, parse_config, parse_overrides
from gan_distributed.deployment.groups import Document, Group
from gan_distributed.deployment.job import CONFIG_FOLDER
from gan_distributed.deployment.pods import DRIVER_METRICS_PORT, RANK_METRICS_PORT
from gan_distributed.deployment.quantities import bytes_of
from gan_distributed.errors import ConfigError

# Letters that need no quoting, since KubeRay pastes the entrypoint into a line of shell.
_SAFE_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
# A training process without its blocks of images: 0.9 GiB were measured on a CPU; the rest is for CUDA, not measured.
_PROCESS_BYTES = 2 << 30


def command_violations(entrypoint: str, groups: list[Group], documents: list[Document]) -> Iterator[str]:
    """What is wrong with the command, its recipe, and the pods that they are to run in."""
    words = shlex.split(entrypoint)
    for word in words:
        if not _SAFE_WORD.fullmatch(word):
            yield f"entrypoint: {word!r} would be read by a shell; put it into the recipe, or use {_SAFE_WORD.pattern}"
    options = _options(words)
    for key in ("--data", "--output"):
        if key in options:
            yield from _shared_place(key, options[key], groups)
    if "gan_distributed.prepare" in words:
        yield from _shared_place("DEST", words[words.index("gan_distributed.prepare") + 2], groups)
        yield from _port("--metrics-port", options.get("--metrics-port"), DRIVER_METRICS_PORT)
    if "gan_distributed.train" not in words:
        return
    try:
        config = _recipe(words, documents)
    except ConfigError as error:
        yield str(error).replace("\n", "; ")
        return
    yield from _ranks(options, config, groups)
    if config is not None:
        yield from _fits(config, groups)
        yield from _port("metrics.controller_port", config.metrics.controller_port, DRIVER_METRICS_PORT)
        yield from _port("metrics.port", config.metrics.port, RANK_METRICS_PORT)


def _options(words: list[str]) -> dict[str, str]:
    return {key: value for key, value in itertools.pairwise(words) if key.startswith("--")}


def _shared_place(option: str, url: str, groups: list[Group]) -> Iterator[str]:
    """Every pod must see the data and write the run: a bucket, or a claim that all of them mount."""
    if url.startswith("memory:"):
        yield f"{option} {url}: memory:// lives in one process; give a bucket"
    elif "://" not in url and not all("persistentVolumeClaim" in (group.volume(url) or {}) for group in groups):
        yield f"{option} {url}: each pod has a disk of its own; give a bucket, or a volume that all of them claim"


def _port(option: str, port: int | str | None, named: int) -> Iterator[str]:
    """What a process serves must be what the pods name, by which it is scraped."""
    if port is not None and str(port) != str(named):
        yield f"{option} {port}: the pods name {named}, each has all ports to itself; leave it at that, or at null"


def _recipe(words: list[str], documents: list[Document]) -> Config | None:
    """The recipe of the command, where it lies in a ConfigMap; None where it is the image's. Raises ConfigError."""
    path = _options(words).get("--config", "")
    name = path.removeprefix(f"{CONFIG_FOLDER}/")
    overrides = parse_overrides([value for key, value in itertools.pairwise(words) if key == "--set"])
    for document in documents:
        if document.get("kind") == "ConfigMap" and name in document.get("data", {}) and name != path:
            return parse_config(document["data"][name], f"ConfigMap {document['metadata']['name']}, {name}", overrides)
    return None


def _ranks(options: dict[str, str], config: Config | None, groups: list[Group]) -> Iterator[str]:
    there = sum(group.replicas * max(1, group.gpus) for group in groups[1:])
    if not options.get("--workers", "").isdigit():
        yield "entrypoint: --workers must say how many processes train"
        return
    asked = int(options["--workers"])
    if there != asked:
        yield f"{asked} workers are to train, pods x GPUs give {there}; make them equal"
    if config is None:
        return
    lanes, batch_size = config.data.num_lanes, config.training.batch_size
    if asked > lanes:
        yield f"{asked} workers are more than data.num_lanes {lanes}; give fewer, or --set data.num_lanes={asked}"
    if asked > batch_size:
        yield f"{asked} workers are more than training.batch_size {batch_size}; give fewer"
    own = config.cluster.worker_range
    if own is not None and own != (asked, asked):
        yield f"the recipe says cluster.workers {config.cluster.workers}, the command {asked}; make them equal"


def _fits(config: Config, groups: list[Group]) -> Iterator[str]:
    for group in groups[1:]:
        ranks, memory = max(1, group.gpus), bytes_of(group.limits.get("memory", "0"))
        shm = group.volume("/dev/shm")  # noqa: S108
        shared = bytes_of((shm or {}).get("emptyDir", {}).get("sizeLimit", "0"))
        needed = ranks * (config.data.memory_bytes + _PROCESS_BYTES) + shared
        if needed > memory:
            yield (
                f"{group.name} pods: {memory / 2**30:g} GiB of memory are less than {ranks} x (data.memory_bytes "
                f"{config.data.memory_bytes / 2**30:g} GiB + {_PROCESS_BYTES / 2**30:g} GiB) + /dev/shm "
                f"{shared / 2**30:g} GiB; give --memory-gib {-(-needed // 2**30)}"
            )
    if config.cluster.stop_grace_s >= groups[0].grace_s:
        yield (
            f"cluster.stop_grace_s {config.cluster.stop_grace_s:g} must be less than the head's "
            f"terminationGracePeriodSeconds {groups[0].grace_s}"
        )
