"""What an exported generator is, as JSON: its files, input and output, classes, origin, recipe, scores, licence."""

from typing import Any

from gan_distributed import __version__
from gan_distributed.config import Config, public_values
from gan_distributed.exporting.portable import input_names
from gan_distributed.training.run_folder import read_config
from gan_distributed.training.scoring import read_scores
from gan_distributed.training.trained import Trained

CARD_NAME = "card.json"
CARD_FORMAT = 1
# Who looks for `made_by` finds what export wrote, and nothing else.
MAKER = "gan-distributed"


def build_card(
    trained: Trained, class_names: tuple[str, ...], files: dict[str, dict[str, Any]], license_: str | None
) -> dict[str, Any]:
    """The card. files: by name, what export says of each.   license_: an SPDX identifier, None where it is open."""
    images, model = trained.images, trained.config.model
    return {
        "format": CARD_FORMAT,
        "made_by": f"{MAKER} {__version__}",
        "what": "the generator of a GAN: latents to images",
        "family": model.family,
        "files": files,
        "inputs": {name: _input(trained, name) for name in input_names(trained)},
        "outputs": {
            "images": {
                "shape": ["batch", images.channels, images.resolution, images.resolution],
                "dtype": "float32",
                "range": [-1.0, 1.0],
                "colour": "grey" if images.channels == 1 else "RGB",
                "to_uint8": "round((images + 1) * 127.5)",
            }
        },
        "classes": list(class_names) or [str(label) for label in range(trained.num_classes)],
        "origin": {
            "checkpoint_sha256": trained.sha256,
            "weights": trained.weights,
            "seen_images": trained.seen_images,
            "dataset_fingerprint": _dataset(trained),
        },
        "recipe": public_values(without_places(trained.config)),
        "scores": _scores(trained),
        "license": license_,
    }


def without_places(config: Config) -> Config:
    """A recipe that does not tell where its owner keeps things."""
    data = config.data.model_copy(update={"url": None})
    cluster = config.cluster.model_copy(update={"address": None})
    gone = {"output": None, "from_checkpoint": None, "recorded": None}
    return config.model_copy(update={"data": data, "cluster": cluster, **gone})


def _input(trained: Trained, name: str) -> dict[str, Any]:
    if name == "labels":
        return {"shape": ["batch"], "dtype": "int64", "range": [0, trained.num_classes - 1]}
    shape = ["batch", trained.config.model.latent_dim]
    return {"shape": shape, "dtype": "float32", "distribution": "standard normal"}


def _dataset(trained: Trained) -> str | None:
    """The fingerprint of the data set that the run was trained on."""
    config = None if trained.run is None else read_config(trained.run)
    return None if config is None or config.recorded is None else config.recorded.dataset


def _scores(trained: Trained) -> list[dict[str, Any]]:
    """Every score of these very weights, with its protocol."""
    if trained.run is None:
        return []
    return [
        record
        for record in read_scores(trained.run)
        if record["seen_images"] == trained.seen_images and record["protocol"]["generator"] == trained.weights
    ]
