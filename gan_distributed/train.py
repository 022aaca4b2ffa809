"""The verb `train`: start or resume a run, on Ray workers or in this process, and tell how it goes.

python -m gan_distributed.train --config jobs/demo.yaml
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_distributed import command
from gan_distributed.training.stop_signals import StopSignals

if TYPE_CHECKING:
    from gan_distributed.config import Config


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
    as_json: Annotated[bool, typer.Option("--json", help="Tell how it ended as JSON.")] = False,
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
    command.about(run=resolved.run_id)
    with command.progress(resolved.training.total_kimg, "kimg"):
        code, ended = start_or_resume(resolved, frozenset(overrides), fresh)
    if as_json:
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()
    if code and resolved.cluster.workers != 0:
        # Without Ray's farewell at exit, which may take longer than a grace period.
        os._exit(code)
    return code


def start_or_resume(config: "Config", allowed: frozenset[str], fresh: bool) -> tuple[int, dict[str, Any]]:
    """Train to the end, or until a signal. Raises GanError.

    allowed: keys that a resume may change.   fresh: delete the run first.
    Returns the exit code, 0 or that of the signal; and run, status (done, stopped), seen_images, record (of the last
    tick), last_grid.
    """
    from gan_distributed.training.assigning import assign, places
    from gan_distributed.training.cluster import train_on_ray
    from gan_distributed.training.in_process import train_in_process
    from gan_distributed.training.run_folder import read_done
    from gan_distributed.training.sinks import check_sinks

    _, run = places(config)
    check_sinks(config.metrics)
    signals = StopSignals()
    if fresh:
        _delete_run(run)
    assignment = assign(config, allowed)
    done = read_done(run, config.training.total_kimg)
    if done is not None:
        command.say(f"{run.url} is finished: {_summary(done)}")
        command.say("go on with a larger --set training.total_kimg=…, or start again with --fresh or another --run-id")
        return 0, _ended(run.url, "done", done)
    if config.cluster.workers == 0:
        signals.training_begins(config.cluster.stop_grace_s)
        outcome = train_in_process(assignment, signals.requested)
    else:
        outcome = train_on_ray(assignment, signals.requested, signals.training_begins)
    facts = {"seen_images": outcome.seen_images, "record": outcome.record, "last_grid": outcome.last_grid}
    ended = _ended(run.url, outcome.kind, facts)
    if outcome.kind == "stopped":
        command.say(f"stopped at {_summary(ended)}; the same command goes on from there")
        return signals.exit_code(), ended
    command.say(f"done: {_summary(ended)}")
    command.say(f"run: {run.url}  (config.yaml, samples/, metrics/, checkpoints/)")
    return 0, ended


def _delete_run(run: Any) -> None:
    from gan_distributed.data import storage
    from gan_distributed.training import lease

    lease.wait_until_free(run, owner="")
    for name in storage.names(run.url):
        # The numbers of the leases go on: an attempt that wakes up must find a higher one.
        if name != "lease":
            storage.delete_folder(storage.join(run.url, name))


def _ended(run_url: str, status: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {"run": run_url, "status": status, **{name: facts[name] for name in ("seen_images", "record", "last_grid")}}


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
