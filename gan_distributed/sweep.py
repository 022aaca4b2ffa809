"""The verb `sweep`: trains a recipe under many values on Ray Tune, ends the poor trials early, compares the rest."""

import contextlib
import json
import os
import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_distributed import command, terminal
from gan_distributed.errors import InputError, StorageError, TrainingError
from gan_distributed.training.stop_signals import StopSignals

if TYPE_CHECKING:
    from gan_distributed.sweeping.planning import Sweep
    from gan_distributed.sweeping.roster import End
    from gan_distributed.sweeping.rungs import Rungs
    from gan_distributed.sweeping.standings import Standing
    from gan_distributed.training.worker import Assignment

# More lines in one chart than there are colours say little.
_MOST_COMPARED = 6
_PAGE_BYTES = 8_000_000


def sweep(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file such as jobs/demo.yaml.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.field=one,two,… varies it; with one value it is set for all trials."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Trials, drawn by the recipe's seed; else all combinations.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data set: a path, gs://, s3://.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder or bucket that holds the sweep.")] = None,
    run_id: Annotated[
        str | None, typer.Option(help="Name of the sweep, else the recipe's run_id and -sweep; the same one resumes.")
    ] = None,
    first_rung_kimg: Annotated[
        float | None, typer.Option(min=0.001, help="No trial ends before; else the whole / REDUCTION squared.")
    ] = None,
    reduction: Annotated[int, typer.Option(min=2, help="At each rung the best one of so many goes on.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the result as JSON.")] = False,
) -> int:
    """Train a recipe under several values each of some keys, and compare the trials by a score.

    Example: gan-distributed sweep jobs/demo.yaml --set loss.r1_gamma=0.1,1,10 --set score.every_kimg=4
    """
    from gan_distributed.config import parse_choices
    from gan_distributed.sweeping.planning import plan_sweep
    from gan_distributed.sweeping.record import Record
    from gan_distributed.sweeping.rungs import Rungs
    from gan_distributed.sweeping.standings import standings

    choices = parse_choices(set_ or [])
    places = {"data.url": data, "output": output, "run_id": run_id}
    given = {key: value for key, value in places.items() if value is not None}
    planned = plan_sweep(recipe, choices, given, trials)
    command.about(run=planned.name)
    first_kimg = first_rung_kimg or max(planned.score_kimg, planned.total_kimg / reduction**2)
    signals = StopSignals()
    code = _train(planned, signals, Rungs(planned.metric, first_kimg, reduction, planned.total_kimg), choices)
    if code:
        command.say("interrupted; the same command goes on with the trials")
        # As train ends.
        os._exit(code)
    _tell(planned, standings(planned, Record(planned)), as_json)
    return 0


def _train(planned: "Sweep", signals: StopSignals, rungs: "Rungs", choices: dict[str, list[Any]]) -> int:
    """Train what is unfinished; the exit code, 0 or that of a signal."""
    from gan_distributed.sweeping.record import Record
    from gan_distributed.sweeping.standings import standing_of, standings
    from gan_distributed.training import lease

    # What is wrong is refused before anything is written.
    before = standings(planned, Record(planned))
    if not _assignments(before, choices):
        command.say(f"all {len(before)} trials ended before")
        return 0
    holder = lease.acquire(planned.folder, uuid.uuid4().hex)
    with contextlib.ExitStack() as stack:
        stack.callback(holder.release)
        # Read again: while this command waited, another one may have gone on.
        record = Record(planned)
        before = standings(planned, record)
        assignments = _assignments(before, choices)
        num_ended = len(before) - len(assignments)
        if num_ended:
            command.say(f"{num_ended} of {len(before)} trials ended before")

        def tell(end: "End") -> None:
            nonlocal num_ended
            num_ended += end.kind != "interrupted"
            trial = next(one.trial for one in before if one.trial.number == end.number)
            try:
                record.add(trial, end)
                told = standing_of(trial, planned.metric, record).line()
            except StorageError as error:
                told = f"{trial.name} {end.kind}; {error}"
            command.say(f"[{num_ended}/{len(before)}] {told}")

        record.write()
        if assignments:
            # Ray and Tune take seconds to import.
            from gan_distributed.sweeping.tuning import run_trials

            run_trials(assignments, {one.trial.number: one.history for one in before}, rungs, signals, tell)
            record.write()
    return signals.exit_code() if signals.requested() else 0


def _assignments(found: "list[Standing]", choices: dict[str, list[Any]]) -> "dict[int, Assignment]":
    """Of the trials that are to be trained, or trained on. Raises InputError."""
    from gan_distributed.training.assigning import assign

    trials = [one.trial for one in found if one.status not in ("done", "stopped")]
    return {trial.number: assign(trial.config, frozenset(choices)) for trial in trials}


def _tell(planned: "Sweep", found: "list[Standing]", as_json: bool) -> None:
    """The table or JSON, and the page. Raises TrainingError where no trial came to its end."""
    from gan_distributed.data import storage
    from gan_distributed.evaluation.protocol import METRICS, check_comparable
    from gan_distributed.reporting.making import Maker
    from gan_distributed.sweeping.standings import table

    scored = [one.best for one in found if one.best is not None]
    for other in scored[1:]:
        try:
            check_comparable(scored[0], other)
        except InputError as error:
            command.say(f"warning: the order says little: {error}")
            break
    shown = [one.trial.run.url for one in found if one.best is not None][:_MOST_COMPARED]
    page = storage.join(planned.folder.url, "comparison.html") if shown else None
    if page is not None:
        storage.write(page, Maker(shown, None, _PAGE_BYTES, 0.0, command.say).page())
    if as_json:
        told = {
            "sweep": planned.folder.url,
            "metric": planned.metric,
            "lower_is_better": METRICS[planned.metric].lower_is_better,
            "trials": [one.to_json() for one in found],
            "page": page,
        }
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        terminal.write_table(*table(found, planned.metric))
        lines = [f"{one.trial.name}: {one.error}" for one in found if one.error]
        if page is not None:
            lines.append(f"\n{'the best ' if len(shown) < len(found) else ''}{len(shown)} side by side: {page}")
        sys.stdout.writelines(f"{line}\n" for line in lines)
    if not any(one.status == "done" for one in found):
        raise TrainingError(f"{planned.folder.url}: no trial came to its end; the reasons are above")


if __name__ == "__main__":
    command.run(sweep)
