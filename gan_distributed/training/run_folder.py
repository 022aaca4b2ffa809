"""Where the parts of a run lie below OUTPUT/RUN_ID, and the record of its configuration."""

import json
from dataclasses import dataclass
from typing import Any

from gan_distributed.config import Change, Config, Origin, Recorded, differences, parse_config
from gan_distributed.data import storage
from gan_distributed.errors import MissingError, ResumeError
from gan_distributed.training.precision import as_recorded

# A resume may not change these at all: the weights would not fit, or the order of images would be another one.
_FIXED = ("seed", "from_checkpoint", "model.", "data.", "training.precision", "training.reduction_precision")


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in one run's folder."""

    url: str

    @property
    def config_url(self) -> str:
        """The resolved configuration, with its digest and the data set's fingerprint."""
        return storage.join(self.url, "config.yaml")

    @property
    def done_url(self) -> str:
        """Exists when total_kimg is reached."""
        return storage.join(self.url, "DONE.json")

    @property
    def lease_url(self) -> str:
        """Folder of numbered leases."""
        return storage.join(self.url, "lease")

    @property
    def checkpoints_url(self) -> str:
        """Folder of checkpoints, each named by its images seen."""
        return storage.join(self.url, "checkpoints")

    @property
    def written_folders(self) -> list[str]:
        """Folders that only the holder of the run writes to, but for those of leases and of single checkpoints."""
        return [
            self.url,
            *(storage.join(self.url, name) for name in ("metrics", "samples", "rollbacks", "tensorboard")),
        ]

    def checkpoint_url(self, seen_images: int) -> str:
        """Folder of one checkpoint."""
        return storage.join(self.checkpoints_url, image_name(seen_images))

    def sample_url(self, seen_images: int) -> str:
        """One grid of samples."""
        return storage.join(self.url, "samples", image_name(seen_images) + ".png")

    def metrics_url(self, seen_images: int, attempt: int) -> str:
        """One part of the metric records."""
        return storage.join(self.url, "metrics", f"{image_name(seen_images)}-{attempt:05d}.jsonl")

    def score_url(self, seen_images: int, part: str) -> str:
        """Some score records of one age of the generator."""
        return storage.join(self.url, "scores", f"{image_name(seen_images)}-{part}.jsonl")

    def trace_url(self, attempt: int) -> str:
        """The Chrome trace of some steps of one attempt."""
        return storage.join(self.url, "profile", f"trace-{attempt:05d}.json")

    @property
    def tensorboard_url(self) -> str:
        """Folder of TensorBoard's event files."""
        return storage.join(self.url, "tensorboard")

    @property
    def wandb_url(self) -> str:
        """Which run of Weights & Biases is told of this one."""
        return storage.join(self.url, "wandb.json")

    def rollback_url(self, number: int) -> str:
        """The record of one return to an older checkpoint."""
        return storage.join(self.url, "rollbacks", f"{number:06d}.json")


def image_name(seen_images: int) -> str:
    """Images seen as a name that sorts."""
    return f"{seen_images:012d}"


def read_config(run: RunFolder) -> Config | None:
    """The configuration that the run was started with, None for a new run."""
    try:
        return parse_config(storage.read_bytes(run.config_url).decode(), run.config_url)
    except MissingError:
        return None


@dataclass(frozen=True)
class Start:
    """Where an attempt starts: its number, images seen, and what `from_checkpoint` means, where that is used."""

    attempt: int
    seen_images: int
    origin: Origin | None


def check_resume(
    run: RunFolder, config: Config, fingerprint: str, allowed: set[str], start: Start | None = None
) -> Config:
    """The configuration to record for this start; refuses one that does not fit the run that is there.

    allowed: keys that the user changes on purpose (--set).   start: None where nothing is going to be recorded.
    """
    old = read_config(run)
    config = as_recorded(config, old)
    changed = {} if old is None else differences(old, config)
    if old is not None:
        _check_fits(run, old, changed, fingerprint, allowed)
    before = old.recorded if old is not None else None
    changes, origin = (before.changes, before.origin) if before else ((), None)
    if start is not None:
        origin = start.origin or origin
        changes += tuple(
            Change(field=path, old=was, new=now, seen_images=start.seen_images, attempt=start.attempt)
            for path, (was, now) in changed.items()
        )
    recorded = Recorded(digest=config.digest, dataset=fingerprint, origin=origin, changes=changes)
    return config.model_copy(update={"recorded": recorded})


def _check_fits(
    run: RunFolder, old: Config, changed: dict[str, tuple[Any, Any]], fingerprint: str, allowed: set[str]
) -> None:
    if old.recorded and old.recorded.dataset and old.recorded.dataset != fingerprint:
        raise ResumeError(
            f"{run.url}: the run was started on another data set (fingerprint {old.recorded.dataset[:12]}, now "
            f"{fingerprint[:12]}); give its --data, another --run-id, or --fresh"
        )
    refused = [
        path
        for path in changed
        if path.startswith(_FIXED) or not any(path == key or path.startswith(key + ".") for key in allowed)
    ]
    if refused:
        told = "; ".join(f"{path} was {changed[path][0]}, now {changed[path][1]}" for path in refused)
        free = [path for path in refused if not path.startswith(_FIXED)]
        mend = f"change it on purpose with --set {free[0]}=…, or " if len(free) == len(refused) else ""
        raise ResumeError(
            f"{run.url}: the run has another configuration: {told}; {mend}use another --run-id or --fresh"
        )


def read_done(run: RunFolder, total_kimg: float) -> dict[str, Any] | None:
    """DONE.json of a run that is at the end of so many kimg, else None."""
    done: dict[str, Any] | None = read_json(run.done_url)
    return done if done is not None and done["seen_images"] >= round(1000 * total_kimg) else None


def read_json(url: str) -> Any | None:
    """A small JSON object of ours, or None where there is none."""
    try:
        return json.loads(storage.read_bytes(url, num_bytes=0))
    except MissingError:
        return None
