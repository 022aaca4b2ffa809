"""From a configuration to what a worker is given. All that can be known to be wrong is refused here, before one starts.

Writes nothing.
"""

import uuid

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest, load_manifest
from gan_distributed.errors import ConfigError, DataError, InputError
from gan_distributed.evaluation.plan import plan, with_absolute_files
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.fine_tuning import check_origin
from gan_distributed.training.own_parts import check_own_parts
from gan_distributed.training.run_folder import RunFolder, check_resume, read_config
from gan_distributed.training.worker import Assignment


def places(config: Config) -> tuple[str, RunFolder]:
    """The data set's URL and the run's folder; raises InputError where one is not named."""
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


def assign(config: Config, allowed: frozenset[str]) -> Assignment:
    """What the workers of a run are given, under a new launch; raises InputError.

    allowed: keys that a resume may change.
    """
    data_url, run = places(config)
    config = _absolute(config)
    before = read_config(run)
    recorded = before.recorded.dataset if before is not None and before.recorded is not None else None
    manifest = _check_data(config, data_url, recorded)
    check_resume(run, config, manifest.fingerprint, set(allowed))
    images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
    if before is None:
        check_origin(config, images)
    folders = check_own_parts(config, images)
    return Assignment(config, data_url, run.url, uuid.uuid4().hex, manifest.fingerprint, allowed, folders)


def _absolute(config: Config) -> Config:
    """Workers have another working directory than the driver."""
    origin = config.from_checkpoint
    return config.model_copy(
        update={
            "score": with_absolute_files(config.score),
            "from_checkpoint": None if origin is None else storage.absolute(origin),
        }
    )


def _check_data(config: Config, data_url: str, recorded: str | None) -> Manifest:
    """The manifest of a data set that the configuration fits.

    recorded: the fingerprint that the run was started with; images that were added since are not for it.
    """
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
