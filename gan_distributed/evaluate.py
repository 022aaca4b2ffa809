"""The verb `evaluate`: scores of a run or a checkpoint, each with its protocol, by the code that scores in training."""

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_distributed import command, terminal
from gan_distributed.errors import ConfigError, GanError, InputError

if TYPE_CHECKING:
    from gan_distributed.config import ScoreConfig
    from gan_distributed.data.manifest import Manifest
    from gan_distributed.evaluation.scorer import Round
    from gan_distributed.training.trained import Trained


def evaluate(
    source: Annotated[str, typer.Argument(help="A run, or one of its checkpoints: a path, gs://, s3://.")],
    data: Annotated[str, typer.Option(help="Prepared data set to compare with: a path, gs://, s3://.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="fid, kid, precision, recall, density, coverage, swd, modes, …; repeatable."),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="dataset, inception, or the URL of a torch.export or TorchScript file.")
    ] = None,
    num_images: Annotated[int | None, typer.Option(help="Generated images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the generated images.")] = None,
    weights: Annotated[str | None, typer.Option(help="URL of the weights of inception.")] = None,
    sha256: Annotated[str | None, typer.Option(help="sha256 of the features' file, or the start of it.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Score the weights that training goes on with, not their average.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Compare with the last scores of this run, or of a .jsonl file of scores.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="data.storage_options.KEY=value; a run does not keep these.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Records with their protocol, as JSON.")] = False,
) -> None:
    """Score a trained generator (its averaged weights, or with --raw its own) against a prepared data set.

    What is not given here is as the run's own configuration has it.

    Example: gan-distributed evaluate runs/faces --data data --metric fid
    """
    given = {
        "metrics": metric,
        "features": features,
        "num_images": num_images,
        "seed": seed,
        "weights": weights,
        "weights_sha256": sha256,
    }
    others = [] if against is None else _records(against)
    _open_data(data, set_ or [])
    seen_images, records, compared = take_scores(source, data, given, others, raw=raw)
    if as_json:
        told: dict[str, Any] = {"source": source, "seen_images": seen_images, "scores": records}
        sys.stdout.write(json.dumps(told | ({"against": compared} if against else {})) + "\n")
    else:
        _write(records, compared)


def take_scores(
    source: str, data: str, given: dict[str, Any], others: list[dict[str, Any]], *, raw: bool
) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """Images seen, the records of the scores, and those of `others` that compare; the scores are kept with the run.

    given: fields of the score section by name, None for what the run's configuration says.
    """
    from gan_distributed.training.trained import load_trained

    trained = load_trained(source, raw=raw)
    config = _settings(trained.config.score, {name: value for name, value in given.items() if value is not None})
    found, compared = _score(trained, config, data, others)
    _keep(trained, found)
    return trained.seen_images, [score.to_record() for score in found.scores], compared


def _settings(config: "ScoreConfig", given: dict[str, Any]) -> "ScoreConfig":
    """The run's score section under what was given; raises ConfigError, in words of the configuration."""
    from gan_distributed.config import load_config

    section = config.model_dump() | {"best": None, "max_s": None, "every_kimg": None, "on_collapse": "warn"} | given
    is_another_file = "weights" in given or given.get("features", config.features) != config.features
    if is_another_file and "weights_sha256" not in given:
        section["weights_sha256"] = None
    return load_config(None, {"score": section}).score


def _open_data(data: str, assignments: list[str]) -> None:
    """Let the data set be opened with the given storage options. Raises ConfigError."""
    from gan_distributed.config import load_config, parse_overrides
    from gan_distributed.data import storage

    overrides = parse_overrides(assignments)
    other = [key for key in overrides if not f"{key}.".startswith("data.storage_options.")]
    if other:
        raise ConfigError(f"--set {other[0]}: evaluate takes data.storage_options only; scores have their own options")
    storage.configure(storage.absolute(data), load_config(None, overrides).data.storage_options)


def _score(
    trained: "Trained", config: "ScoreConfig", data: str, others: list[dict[str, Any]]
) -> "tuple[Round, list[dict[str, Any]]]":
    import torch

    from gan_distributed.data import storage
    from gan_distributed.data.manifest import load_manifest
    from gan_distributed.evaluation.fakes import maker
    from gan_distributed.evaluation.scorer import Scorer
    from gan_distributed.training.scoring import store_beside
    from gan_distributed.training.world import World

    url = storage.absolute(data)
    manifest = load_manifest(url)
    _check_fit(trained, manifest, url)
    world = World(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    scorer = Scorer(config, url, manifest, world, store_beside(url, trained.run, command.say), trained.weights)
    # Before images are made: what cannot be compared is told at once.
    compared = _comparable(scorer, others)
    histogram = scorer.histogram() if trained.config.model.conditional else None
    make = maker(trained.generator.to(world.device), trained.config.model.latent_dim, histogram, config.seed)
    found = scorer.score(make, trained.seen_images)
    if found is None:
        raise InputError("score.max_s ran out")
    return found, compared


def _check_fit(trained: "Trained", manifest: "Manifest", url: str) -> None:
    images = trained.images
    if (images.resolution, images.channels) != (manifest.height, manifest.channels):
        raise InputError(
            f"{url}: {manifest.height} px with {manifest.channels} channels, the generator makes {images.resolution} "
            f"px with {images.channels}; prepare the data the same way"
        )
    if trained.config.model.conditional and images.num_classes != manifest.num_classes:
        raise InputError(f"{url}: {manifest.num_classes} classes, the generator was trained on {images.num_classes}")


def _records(against: str) -> list[dict[str, Any]]:
    """Score records of a run, or of a file that evaluate or train wrote."""
    from gan_distributed.data import storage
    from gan_distributed.training.run_folder import RunFolder
    from gan_distributed.training.scoring import read_scores

    run = RunFolder(storage.absolute(against))
    if storage.exists(run.config_url):
        found = read_scores(run)
    else:
        try:
            parsed = [json.loads(line) for line in storage.read_bytes(against).decode().splitlines()]
            found = [record for one in parsed for record in one.get("scores", [one])]
            found = [record for record in found if record["protocol"]["metric"] == record["metric"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{against}: neither a run nor a file of score records ({error})") from error
    if not found:
        raise InputError(f"{against}: no scores there; `gan-distributed evaluate` it first")
    return found


def _comparable(scorer: Any, others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest record of each metric, of the same protocol; raises InputError where there is one of another only."""
    from dataclasses import asdict

    from gan_distributed.evaluation.protocol import check_comparable

    compared = []
    for metric in scorer.metrics:
        ours = {"metric": metric, "protocol": asdict(scorer.protocol(metric))}
        theirs = [record for record in others if record["metric"] == metric]
        same = [record for record in theirs if record["protocol"] == ours["protocol"]]
        if theirs and not same:
            # What must be done otherwise is said of the newest of those that are most alike.
            check_comparable(ours, min(reversed(theirs), key=lambda record: _num_different(ours, record)))
        compared += same[-1:]
    return compared


def _num_different(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(value != other["protocol"].get(name) for name, value in one["protocol"].items())


def _keep(trained: "Trained", found: "Round") -> None:
    """Write the records into the run's folder; the same scores again replace them."""
    import hashlib

    from gan_distributed.data import storage
    from gan_distributed.training.scoring import encode_scores

    if trained.run is None:
        return
    protocols = hashlib.sha256("".join(score.protocol.digest for score in found.scores).encode()).hexdigest()
    url = trained.run.score_url(trained.seen_images, f"evaluate-{protocols[:12]}")
    try:
        storage.write(url, encode_scores(found.scores, {"attempt": None, "time": time.time()}))
    except GanError as error:
        command.say(f"the scores are not kept with the run: {error}")


def _write(records: list[dict[str, Any]], compared: list[dict[str, Any]]) -> None:
    before = {record["metric"]: record for record in compared}
    rows = []
    for record in records:
        protocol = record["protocol"]
        spread = "" if record["spread"] is None else f"{record['spread']:.2g}"
        made = f"{protocol['num_fake']} generated, {protocol['num_real']} real"
        if protocol["features"] is not None:
            made += (
                f", features {protocol['features']} {protocol['features_sha256'][:8]}, resizer {protocol['resizer']}"
            )
        other = before.get(record["metric"])
        against = "" if other is None else f"{other['value']:.6g} at {other['kimg']:g} kimg"
        rows.append([record["metric"], f"{record['value']:.6g}", spread, f"{record['kimg']:g}", against, made])
    columns = ["metric", "score", "+-", "kimg", "against", "how"]
    if not compared:
        columns.remove("against")
        rows = [[*row[:4], *row[5:]] for row in rows]
    terminal.write_table(columns, rows)


if __name__ == "__main__":
    command.run(evaluate)
