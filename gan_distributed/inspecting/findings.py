"""Recognises what lies at a URL and tells it as plain values. Reads small files only; `verifying` reads the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gan_distributed.data import storage
from gan_distributed.data.manifest import MANIFEST_NAME, Manifest, load_manifest
from gan_distributed.errors import CheckpointError, GanError, InputError, NotCommittedError
from gan_distributed.inspecting.statuses import status_of
from gan_distributed.training.checkpoint import COMMIT_NAME, Checkpoint, checkpoints_newest_first, open_checkpoint
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.trained import GENERATOR_SUFFIX, load_trained

# Classes of a histogram that are told one by one to people.
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Stored:
    """A file that an index names: what `--verify` reads."""

    url: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Finding:
    """What was found. kind: a word or two.   told: values for people and programs.   files: all that are named."""

    kind: str
    told: dict[str, Any]
    files: tuple[Stored, ...] = ()
    manifest: Manifest | None = None


def look_at(url: str) -> Finding:
    """Raises InputError where there is nothing, or nothing of this package."""
    if url.endswith(GENERATOR_SUFFIX):
        return _generator(url)
    there = set(storage.names(url))
    if MANIFEST_NAME in there:
        return _dataset(url)
    if COMMIT_NAME in there:
        return _checkpoint(url)
    if "config.yaml" in there:
        return _run(url)
    _refuse(url, there)
    raise InputError(f"{url}: none of what this program writes ({len(there)} other files or folders)")


def _refuse(url: str, there: set[str]) -> None:
    """Raise InputError, with what it seems to be."""
    if not there:
        raise InputError(f"{url}: nothing is there")
    if {"parts", "shards"} & there:
        raise InputError(
            f"{url}: a data set that was never finished ({MANIFEST_NAME} is missing); run the same `prepare` again"
        )
    if any(name.startswith("state-") for name in there):
        raise InputError(f"{url}: a checkpoint that was never committed ({COMMIT_NAME} is missing); take another one")
    if any(storage.exists(storage.join(url, name, "config.yaml")) for name in sorted(there)[:20]):
        raise InputError(f"{url}: a folder of runs; `gan-distributed runs {url}` lists them")
    if any(name.lower().endswith((".png", ".jpg", ".jpeg", ".tar", ".zip", ".parquet")) for name in there):
        raise InputError(f"{url}: raw images; `gan-distributed prepare {url} DEST --resolution 64` makes a data set")


def _dataset(url: str) -> Finding:
    manifest = load_manifest(url)
    records = [*manifest.shards, manifest.blocks, *([manifest.labels] if manifest.labels else [])]
    files = tuple(Stored(storage.join(url, one.path), one.bytes, one.sha256) for one in records)
    names, histogram = manifest.class_names or (), manifest.class_histogram or ()
    told = {
        "images": manifest.num_images,
        "size": f"{manifest.height}x{manifest.width}x{manifest.channels}",
        "bytes": sum(file.bytes for file in files),
        "shards": len(manifest.shards),
        "block_rows": manifest.block_rows,
        "quarantined": manifest.num_quarantined,
        "fingerprint": manifest.fingerprint,
        "parent": manifest.parent,
        "prepared": manifest.prepared.model_dump(),
        "classes": dict(zip(names, histogram, strict=True)),
    }
    return Finding("data set", told, files, manifest)


def _checkpoint(url: str) -> Finding:
    checkpoint = open_checkpoint(url)
    told = {"seen_images": checkpoint.seen_images, "bytes": sum(file.bytes for file in checkpoint.files.values())}
    files = {role: {"name": file.name, "bytes": file.bytes} for role, file in checkpoint.files.items()}
    whole = {"files": files, "whole": checkpoint.has_sizes()}
    return Finding("checkpoint", told | whole, tuple(_stored(checkpoint)))


def _run(url: str) -> Finding:
    run = RunFolder(storage.absolute(url))
    status = status_of(run)
    checkpoints: list[dict[str, Any]] = []
    files: list[Stored] = []
    for place in checkpoints_newest_first(run):
        try:
            checkpoint = open_checkpoint(place)
        except NotCommittedError:
            continue
        except CheckpointError as error:
            checkpoints.append({"name": place.rsplit("/", 1)[-1], "whole": False, "error": str(error)})
            continue
        size = sum(file.bytes for file in checkpoint.files.values())
        name = place.rsplit("/", 1)[-1]
        checkpoints.append({"name": name, "whole": checkpoint.has_sizes(), "bytes": size})
        files += _stored(checkpoint)
    return Finding("run", status.to_json() | {"checkpoints": checkpoints}, tuple(files))


def _stored(checkpoint: Checkpoint) -> Iterator[Stored]:
    for file in checkpoint.files.values():
        yield Stored(storage.join(checkpoint.url, file.name), file.bytes, file.sha256)


def _generator(url: str) -> Finding:
    trained = load_trained(url)
    images = trained.images
    told = {
        "family": trained.config.model.family,
        "size": f"{images.resolution}x{images.resolution}x{images.channels}",
        "classes": trained.num_classes,
        "parameters": sum(parameter.numel() for parameter in trained.generator.parameters()),
        "seen_images": trained.seen_images,
        "sha256": trained.sha256,
    }
    return Finding("generator", told)


def lines(finding: Finding) -> list[str]:
    """For people."""
    told = []
    for name, value in finding.told.items():
        if name == "classes" and isinstance(value, dict):
            told += _histogram(value)
        elif name == "checkpoints":
            told += [f"{'checkpoint':<16} {_told_checkpoint(one)}" for one in value]
        elif isinstance(value, dict):
            told.append(f"{name:<16} {', '.join(f'{key} {_short(item)}' for key, item in value.items())}")
        elif value is not None:
            told.append(f"{name:<16} {f'{value / 2**20:.1f} MiB' if name == 'bytes' else value}")
    return told


def _histogram(classes: dict[str, int]) -> list[str]:
    if not classes:
        return [f"{'classes':<16} none"]
    most = max(classes.values())
    width = max(len(name) for name in classes)
    shown = list(classes.items())[:_MOST_CLASSES]
    bars = [f"  {name:<{width}} {count:>9} {'#' * round(30 * count / most)}" for name, count in shown]
    rest = [f"  and {len(classes) - len(shown)} more"] if len(classes) > len(shown) else []
    return [f"{'classes':<16} {len(classes)}", *bars, *rest]


def _told_checkpoint(one: dict[str, Any]) -> str:
    if "error" in one:
        return f"{one['name']} broken: {one['error']}"
    return f"{one['name']} {one['bytes'] / 2**20:.1f} MiB{'' if one['whole'] else ', files missing or cut'}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(item) for item in value.values())
    return str(value)


def unexpected(error: GanError) -> dict[str, Any]:
    """A broken thing, for programs."""
    return {"kind": "broken", "error": str(error)}
