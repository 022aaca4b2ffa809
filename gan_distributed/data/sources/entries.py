"""What a source of images is, whatever lies behind it: sorted entries and a reader. Opening one is in opening.py."""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gan_distributed.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    from gan_distributed.data.sources.listing import Listing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# A file that says it is larger is refused unread: 64 megapixels of RGB are 192 MiB.
MAX_IMAGE_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000


class BadImageError(DataError):
    """One image cannot be used; the message is the reason that the quarantine list gives."""


class Entry(NamedTuple):
    """One image of a source."""

    name: str
    # The index in the source's class_names, None where there are no labels.
    label: int | None
    # As the listing declares it; 0 where it is not known.
    num_bytes: int
    # Where the reader finds it: a byte offset or an index. Not part of what the image is.
    position: int = 0
    # A checksum, where the source has one for nothing.
    crc: int = 0


class Reader(Protocol):
    """Reads the images of a source in any process: it is small, hashable and pickles, and opens things on first use."""

    @property
    def threads(self) -> int:
        """How many reads at a time are worth it: more than one where each waits for a network."""

    def read(self, entry: Entry) -> "bytes | Image.Image":
        """The file's bytes, or an image that needs no decoding; raises BadImageError where this entry is broken."""


@dataclass
class Source:
    """A stable list of images, sorted by name, and the reader that opens them. Closing it removes temporary files."""

    entries: "Listing"
    class_names: tuple[str, ...] | None
    reader: Reader
    # Whether only processes on this machine can read it.
    is_local: bool
    # Whether images come as pixels, so that there is nothing to decode.
    is_raw: bool = False
    temporary: TemporaryDirectory[str] | None = None

    def open_image(self, index: int) -> "bytes | Image.Image":
        """The bytes, or the image, of the entry at `index`."""
        return self.reader.read(self.entries[index])

    def close(self) -> None:
        """Remove what was unpacked, and the listing."""
        self.entries.close()
        if self.temporary is not None:
            self.temporary.cleanup()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def is_image(name: str) -> bool:
    """Whether a name promises an image and is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a name, or a folder in it, is what systems leave lying about: `.cache/a.png`, `__MACOSX/._a.png`."""
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


def plain_name(name: str) -> str:
    """The name with forward slashes and without a leading `/` or `./`. It is a name only: never a path to write to."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def oversized(entry: Entry) -> BadImageError:
    """The refusal of an entry that declares more than MAX_IMAGE_BYTES."""
    return BadImageError(f"{entry.num_bytes} bytes, more than {MAX_IMAGE_BYTES // 2**20} MiB")
