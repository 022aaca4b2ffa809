"""Puts an exported generator in place: its files first, its card last, so that a card names only what is there."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from gan_distributed.data import storage
from gan_distributed.errors import InputError, MissingError
from gan_distributed.exporting.card import CARD_NAME, MAKER, build_card
from gan_distributed.exporting.formats import FILE_NAMES, Format, encode
from gan_distributed.exporting.readme import MARK, encode_readme
from gan_distributed.pictures.maker import Maker
from gan_distributed.pictures.studio import Studio
from gan_distributed.pictures.subjects import Selection, class_names
from gan_distributed.training.trained import Trained

README_NAME, SAMPLES_NAME = "README.md", "samples.png"
_SAMPLES = 40


def publish(
    trained: Trained, out: str, formats: list[Format], license_: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write a generator in some formats; returns the card. Raises InputError where OUT holds something else."""
    before = _read_card(out)
    files = _files_to_keep(trained, out, before)
    _check_readme(out, before)
    encoded = {}
    for kind in formats:
        data, difference = encode(trained, kind)
        told = "not run here" if difference is None else f"images within {difference:.1g}"
        say(f"{FILE_NAMES[kind]}: {len(data) / 2**20:.1f} MiB, {told}")
        encoded[FILE_NAMES[kind]] = data
        files[FILE_NAMES[kind]] = {
            "format": kind,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "largest_difference": difference,
        }
    names = class_names(trained)
    card = build_card(trained, names, files, license_ or (before or {}).get("license"))
    # What a card names is never written over while it is there.
    storage.delete(storage.join(out, CARD_NAME))
    for name, data in encoded.items():
        storage.write(storage.join(out, name), data)
    Studio(trained, Selection(num=_SAMPLES), None, say, Maker(trained)).grid(storage.join(out, SAMPLES_NAME))
    storage.write(storage.join(out, README_NAME), encode_readme(card, _title(trained)))
    storage.write(storage.join(out, CARD_NAME), json.dumps(card, indent=1).encode())
    return card


def _files_to_keep(trained: Trained, out: str, before: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Other formats of the same generator that an earlier export wrote there."""
    if before is None:
        return {}
    if before["origin"]["checkpoint_sha256"] != trained.sha256:
        raise InputError(
            f"{out}: holds the export of another checkpoint ({before['origin']['seen_images']} images seen, here "
            f"{trained.seen_images}); give another folder, or delete this one"
        )
    kept: dict[str, dict[str, Any]] = before["files"]
    return dict(kept)


def _read_card(out: str) -> dict[str, Any] | None:
    url = storage.join(out, CARD_NAME)
    try:
        card = json.loads(storage.read_bytes(url))
        if card["made_by"].startswith(MAKER) and isinstance(card["files"], dict) and card["origin"]["seen_images"] >= 0:
            return dict(card)
    except MissingError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{url}: not a card that export wrote; give another folder")


def _check_readme(out: str, card: dict[str, Any] | None) -> None:
    url = storage.join(out, README_NAME)
    if card is None and storage.exists(url) and MARK.encode() not in storage.read_bytes(url):
        raise InputError(f"{url}: not written by export, which would replace it; give another folder")


def _title(trained: Trained) -> str:
    name = trained.config.run_id or trained.config.model.family
    return f"{name}, {trained.images.resolution} px"
