"""The verb `train`: start or resume a run, on Ray workers or in this process, and tell how it goes.

python -m gan_distributed.train --config jobs/demo.yaml
"""

import os
import signal
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.errors import ConfigError, DataError, InputError

if TYPE_CHECKING:
    from gan_distributed.config import Config
    from gan_distributed.training.outcome import Outcome


def train(
    config: Annotated[str, typer.Option(help="Recipe, a YAML file such as jobs/demo.yaml.")],
    data: Annotated[str | None, typer.Option(help="Prepared data set: a path, gs://, s3://.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder or bucket that holds the runs.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same name resumes it.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Run or checkpoint whose networks a new run starts with.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Ray workers, as 2 or 2..8; 0 trains in this process, without Ray.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.field=value, over the recipe.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run of that name first.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time of steps went, at the end.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Write a Chrome trace of some steps into the run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and end.")] = False,
    log_format: command.LogFormat = "text",
) -> int:
    """Train a GAN on a prepared data set, or go on with the run of that name.

    Example: gan-distributed train --config jobs/demo.yaml --data demo/data --workers 2
    """
    from gan_distributed.config import load_config, parse_overrides, to_yaml

    overrides = parse_overrides(set_ or [])
    shortcuts = {"data.url": data, "output": output, "run_id": run_id, "cluster.workers": workers}
    shortcuts["from_checkpoint"] = from_
    given: dict[str, Any] = {key: value for key, value in shortcuts.items() if value is not None}
    given |= {key: True for key, asked in {"metrics.phase_times": profile, "metrics.trace": trace}.items() if asked}
    resolved = load_config(config, overrides | given)
    if dry_run:
        sys.stdout.write(to_yaml(resolved))
        return 0
    command.log_to_stderr(log_format)
    command.about(run=resolved.run_id)
    code = start_or_resume(resolved, frozenset(overrides), fresh)
    if code and resolved.cluster.workers != 0:
        # Without Ray's farewell at exit, which may take longer than a grace period.
        os._exit(code)
    return code


def start_or_resume(config: "Config", allowed: frozenset[str], fresh: bool) -> int:
    """Train to the end, or until a signal; returns the exit code, 0 or that of the signal. Raises GanError.

    allowed: keys that a resume may change.   fresh: delete the run first.
    """
    from gan_distributed.evaluation.plan import with_absolute_files
    from gan_distributed.models.networks import ImageSpec
    from gan_distributed.training.cluster import train_on_ray
    from gan_distributed.training.fine_tuning import check_origin
    from gan_distributed.training.in_process import train_in_process
    from gan_distributed.training.own_parts import check_own_parts
    from gan_distributed.training.run_folder import RunFolder, check_resume, read_config, read_json
    from gan_distributed.training.sinks import check_sinks
    from gan_distributed.training.worker import Assignment

    data_url, run = _places(config)
    check_sinks(config.metrics)
    config = _absolute(config.model_copy(update={"score": with_absolute_files(config.score)}))
    signals = _StopSignals()
    if fresh:
        _delete_run(run)
    before = read_config(run)
    recorded = before.recorded.dataset if before is not None and before.recorded is not None else None
    manifest = _check_data(config, data_url, recorded)
    check_resume(run, config, manifest.fingerprint, set(allowed))
    images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
    if before is None:
        check_origin(config, images)
    done = read_json(run.done_url)
    if done is not None and done["seen_images"] >= round(1000 * config.training.total_kimg):
        command.say(f"{run.url} is finished: {_summary(done)}")
        command.say("go on with a larger --set training.total_kimg=…, or start again with --fresh or another --run-id")
        return 0
    folders = check_own_parts(config, images)
    assignment = Assignment(config, data_url, run.url, uuid.uuid4().hex, manifest.fingerprint, allowed, folders)
    if config.cluster.workers == 0:
        signals.training_begins(config.cluster.stop_grace_s)
        outcome = train_in_process(assignment, signals.requested)
    else:
        outcome = train_on_ray(assignment, signals.requested, signals.training_begins)
    return _tell_end(RunFolder(run.url), outcome, signals)


def _absolute(config: "Config") -> "Config":
    """Ray workers have another working directory than the driver."""
    from gan_distributed.data import storage

    origin = config.from_checkpoint
    return config.model_copy(update={"from_checkpoint": None if origin is None else storage.absolute(origin)})


def _places(config: "Config") -> tuple[str, Any]:
    from gan_distributed.data import storage
    from gan_distributed.training.run_folder import RunFolder

    if config.data.url is None:
        raise ConfigError("data.url: no data set; give --data URL (make one with `gan-distributed prepare`)")
    if config.output is None:
        raise ConfigError("output: nowhere to write; give --output URL")
    if config.run_id is None:
        raise ConfigError("run_id: the run has no name; give --run-id NAME")
    for url in (config.data.url, config.output):
        if storage.protocol(url) == "memory" and config.cluster.workers != 0:
            raise InputError(f"{url}: memory:// lives in one process only; use --workers 0, or a path or bucket")
    run_url = storage.join(storage.absolute(config.output), config.run_id)
    return storage.absolute(config.data.url), RunFolder(run_url)


def _check_data(config: "Config", data_url: str, recorded: str | None) -> Any:
    """The manifest; everything that can be known to be wrong before a worker starts.

    recorded: the fingerprint that the run was started with; images that were added since are not for it.
    """
    from gan_distributed.data import storage
    from gan_distributed.data.manifest import load_manifest
    from gan_distributed.evaluation.plan import plan

    storage.configure(data_url, config.data.storage_options)
    is_there = recorded is not None and storage.exists(storage.join(data_url, "manifests", f"{recorded}.json"))
    manifest = load_manifest(data_url, recorded if is_there else None)
    if manifest.num_images < config.data.num_lanes:
        raise DataError(
            f"{data_url}: {manifest.num_images} images are fewer than data.num_lanes {config.data.num_lanes}; "
            f"prepare more images, or --set data.num_lanes={manifest.num_images}"
        )
    if config.model.conditional and manifest.num_classes < 2:
        raise DataError(
            f"{data_url}: {manifest.num_classes} classes, model.conditional needs two or more; prepare images in "
            "sub-folders or with labels.csv, or --set model.conditional=false"
        )
    if config.score.every_kimg is not None:
        plan(config.score, manifest, data_url)
    return manifest


def _delete_run(run: Any) -> None:
    from gan_distributed.data import storage
    from gan_distributed.training import lease

    lease.wait_until_free(run, owner="")
    for name in storage.names(run.url):
        # The numbers of the leases go on: an attempt that wakes up must find a higher one.
        if name != "lease":
            storage.delete_folder(storage.join(run.url, name))


class _StopSignals:
    """SIGTERM and SIGINT ask for a last checkpoint; a second one aborts, and so does one before training."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._is_training = False
        self._stop_grace_s: float | None = None
        self._take()

    def training_begins(self, stop_grace_s: float | None = None) -> None:
        """From here on there is something to save. Called after ray.init, which takes SIGTERM for itself.

        stop_grace_s: where nobody else watches the time, how long after a signal this process ends, saved or not.
        """
        self._is_training, self._stop_grace_s = True, stop_grace_s
        self._take()

    def _take(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self.received is not None

    def exit_code(self) -> int:
        """The code that tells which signal it was."""
        return command.EXIT_TERMINATED if self.received == signal.SIGTERM else command.EXIT_INTERRUPTED

    def _handle(self, number: int, _frame: Any) -> None:
        if self.received is not None:
            command.say("a second signal: ending at once; the last committed checkpoint stands")
            os._exit(128 + number)
        self.received = number
        if not self._is_training:
            command.say(f"{signal.Signals(number).name}: training had not begun")
            raise SystemExit(self.exit_code())
        command.say(f"{signal.Signals(number).name}: saving a last checkpoint; again to end at once")
        if self._stop_grace_s is not None:
            timer = threading.Timer(self._stop_grace_s, self._give_up)
            timer.daemon = True
            timer.start()

    def _give_up(self) -> None:
        from gan_distributed.training.cluster import NO_LAST_CHECKPOINT

        command.say(NO_LAST_CHECKPOINT)
        os._exit(self.exit_code())


def _tell_end(run: Any, outcome: "Outcome", signals: _StopSignals) -> int:
    told = _summary({"seen_images": outcome.seen_images, "record": outcome.record, "last_grid": outcome.last_grid})
    if outcome.kind == "stopped":
        command.say(f"stopped at {told}; the same command goes on from there")
        return signals.exit_code()
    command.say(f"done: {told}")
    command.say(f"run: {run.url}  (config.yaml, samples/, metrics/, checkpoints/)")
    return 0


def _summary(done: dict[str, Any]) -> str:
    record = done["record"]
    parts = [f"{done['seen_images'] / 1000:.1f} kimg"]
    if record:
        parts.append(f"loss D {record['loss_discriminator']:.3f} G {record['loss_generator']:.3f}")
        parts.append(f"D accuracy real {record['accuracy_real']:.2f} fake {record['accuracy_fake']:.2f}")
    if done["last_grid"]:
        parts.append(f"last grid {done['last_grid']}")
    return ", ".join(parts)


if __name__ == "__main__":
    command.run(train)
