"""The data sets that one preparation makes: one, or two that part the images by the hashes of their names."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence

from gan_distributed.data import storage
from gan_distributed.data.sources.listing import Listing
from gan_distributed.errors import InputError

# A place for a data set, and whether an image of that name belongs there.
Split = tuple[str, Callable[[str], bool]]


def splits_of(dest: str, split: str | None) -> list[Split]:
    """The data sets to make: DEST, or one below it for each part of the split."""
    if split is None:
        return [(dest, lambda _: True)]
    name, _, share = split.partition("=")
    if not re.fullmatch(r"[A-Za-z][\w-]*", name) or name == "train" or not re.fullmatch(r"0?\.\d+", share):
        raise InputError(f"--split {split}: give a name other than train, and its share: test=0.1")
    bound = int(float(share) * 2**64)

    def is_in(image: str) -> bool:
        digest = hashlib.sha256(b"split:" + image.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < bound

    return [(storage.join(dest, "train"), lambda image: not is_in(image)), (storage.join(dest, name), is_in)]


def parts_of(entries: Listing, splits: Sequence[Split]) -> Iterator[tuple[str, Listing]]:
    """The place of each data set and its images."""
    if len(splits) == 1:
        yield splits[0][0], entries
        return
    for place, is_in in splits:
        with contextlib.closing(Listing(entry for entry in entries if is_in(entry.name))) as part:
            if not part:
                raise InputError(f"{place}: the split leaves no image for it; give another share, or more images")
            yield place, part
