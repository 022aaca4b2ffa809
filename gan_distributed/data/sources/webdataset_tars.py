"""Images in tars as WebDataset lays them out: the files of a sample share their name up to its first dot."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from gan_distributed.data import storage
from gan_distributed.data.sources.archives import files_in_tar
from gan_distributed.data.sources.arrays import image_of, parse_npy
from gan_distributed.data.sources.entries import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, Entry, is_hidden, oversized
from gan_distributed.data.sources.files import Files, Options, inside, split_inside
from gan_distributed.data.sources.label_words import StoredEntries, index_words
from gan_distributed.data.sources.spans import forget_files, read_span
from gan_distributed.data.sources.spool import BoundedGzip
from gan_distributed.data.sources.tar_headers import Member
from gan_distributed.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# Of several images in a sample the first of these is taken, unless ?image= chooses another.
_IMAGES = tuple(dict.fromkeys(("jpg", "jpeg", "png", "webp", "npy", *(suffix[1:] for suffix in IMAGE_SUFFIXES))))
_JSON_KEYS = ("label", "cls", "class", "class_id", "label_id")
_MAX_LABEL_BYTES = 2**20
_MAX_WORD = 200
_LOOKED_AT = 64


@dataclass(frozen=True)
class WebdatasetReader:
    """Reads members of the tars below a URL."""

    url: str
    threads: int

    def read(self, entry: Entry) -> "bytes | Image.Image":
        """The member's bytes, or the image of a .npy."""
        if entry.num_bytes > MAX_IMAGE_BYTES:
            raise oversized(entry)
        file, member = split_inside(entry.name)
        data = read_span(storage.join(self.url, file), entry.position, entry.num_bytes)
        return image_of(parse_npy(data)) if member.lower().endswith(".npy") else data


def list_webdataset(
    files: Files, options: Options, folder: Path
) -> tuple[StoredEntries, tuple[str, ...] | None, WebdatasetReader]:
    """The samples' images, the names of their classes and their reader; the headers are read once, in order.

    Labels come from `.cls`, else from `label` (or cls, class) in `.json`, else from `.txt`, as the first samples show;
    `?label=SUFFIX` or `?label=json.KEY` chooses.
    """
    options.refuse(files.url, "image", "label", "split")
    forget_files()
    packed = next((name for name in files.names if name.lower().endswith(("gz", "zst", "bz2", "xz"))), None)
    if packed is not None:
        raise DataError(f"{files.base}/{packed}: a compressed tar cannot be read at random; unpack it to a .tar")
    first = storage.join(files.base, files.names[0])
    if options.label in (None, "json"):
        place = _shown(first, options.image, ("json",) if options.label else ("cls", "json", "txt"))
    else:
        place = _chosen(str(options.label))
    found = (
        (Entry(inside(file, image.name), None, image.num_bytes, image.offset), _label(file, sample, place))
        for file in files.names
        for sample in _samples(storage.join(files.base, file))
        if (image := _image(sample, options.image)) is not None
    )
    is_guess = options.label is None and place is not None and place.suffix == "txt"
    entries, names = index_words(files.url, found, folder / "found", asked=options.label, is_guess=is_guess)
    return entries, names, WebdatasetReader(files.base, files.threads)


def is_webdataset(url: str) -> bool:
    """Whether a tar's first samples have labels beside them, or are arrays; what else is in a tar is like a folder."""
    for sample in itertools.islice(_samples(url), _LOOKED_AT):
        image = _image(sample, None)
        if image is not None and (image.name.lower().endswith(".npy") or _place_in(sample, ("cls", "json"))):
            return True
    return False


class _Place(NamedTuple):
    """Where samples have their label."""

    suffix: str
    # The key in a JSON object.
    key: str


@dataclass
class _Sample:
    key: str
    # By suffix, which is all that follows the first dot.
    members: dict[str, Member] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


def _samples(url: str) -> Iterator[_Sample]:
    """The samples of a tar: neighbours of one key, with the bytes of what may be a label."""
    sample = _Sample("")
    with storage.open_binary(url) as raw, _plain(url, raw) as stream:
        for member in files_in_tar(url, stream):
            head, _, base = member.name.rpartition("/")
            stem, dot, suffix = base.partition(".")
            if not dot or not stem or is_hidden(member.name):
                continue
            suffix = suffix.lower()
            key = f"{head}/{stem}"
            if key != sample.key or suffix in sample.members:
                if sample.members:
                    yield sample
                sample = _Sample(key)
            sample.members[suffix] = member
            if suffix.rsplit(".", 1)[-1] not in _IMAGES and member.num_bytes <= _MAX_LABEL_BYTES:
                sample.texts[suffix] = stream.read(member.num_bytes)
    if sample.members:
        yield sample


def _plain(url: str, raw: IO[bytes]) -> IO[bytes]:
    """The stream, unpacked where it is gzip: such a tar can be looked at, though not be read at random."""
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return cast("IO[bytes]", BoundedGzip(url, raw)) if packed else raw


def _image(sample: _Sample, chosen: str | None) -> Member | None:
    if chosen is not None:
        return sample.members.get(chosen.lower())
    # `jpg` before `mask.png`: what has more than one dot is more often beside the point.
    ranked = [
        (suffix.count("."), _IMAGES.index(last), suffix)
        for suffix in sample.members
        if (last := suffix.rsplit(".", 1)[-1]) in _IMAGES
    ]
    return sample.members[min(ranked)[2]] if ranked else None


def _chosen(label: str) -> _Place | None:
    suffix, _, key = label.partition(".")
    if label == "none":
        return None
    return _Place(suffix.lower(), key) if suffix.lower() == "json" else _Place(label.lower(), "")


def _shown(url: str, image: str | None, suffixes: tuple[str, ...]) -> _Place | None:
    """The place of labels that the first samples of a tar show."""
    looked_at = [sample for sample in itertools.islice(_samples(url), _LOOKED_AT) if _image(sample, image) is not None]
    for suffix in suffixes:
        for sample in looked_at:
            place = _place_in(sample, (suffix,))
            if place is not None:
                return place
    return None


def _place_in(sample: _Sample, suffixes: tuple[str, ...]) -> _Place | None:
    for suffix in suffixes:
        if suffix not in sample.texts:
            continue
        if suffix != "json":
            return _Place(suffix, "")
        content = _parsed(sample.texts[suffix])
        for key in _JSON_KEYS:
            if isinstance(content, dict) and _is_word(content.get(key)):
                return _Place(suffix, key)
    return None


def _label(file: str, sample: _Sample, place: _Place | None) -> str | None:
    if place is None or place.suffix not in sample.texts:
        return None
    text = sample.texts[place.suffix]
    if place.suffix == "json":
        content = _parsed(text)
        found = content.get(place.key) if isinstance(content, dict) else None
        return str(found) if _is_word(found) else None
    try:
        word = text.decode("utf-8-sig").strip()
    except ValueError as error:
        raise DataError(
            f"{inside(file, sample.members[place.suffix].name)}: not text; mend it or take it away"
        ) from error
    return word[:_MAX_WORD] or None


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_word(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""
