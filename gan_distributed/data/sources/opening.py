"""Where raw images come from: opens a folder, archive, IDX file, torchvision set or built-in set as a Source."""

import contextlib
import functools
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gan_distributed.data import storage
from gan_distributed.data.sources import folders
from gan_distributed.data.sources.archives import list_tar, list_zip, unpack_tar_gz
from gan_distributed.data.sources.entries import (
    MAX_IMAGE_BYTES,
    BadImageError,
    Entry,
    Reader,
    Source,
    is_image,
    oversized,
)
from gan_distributed.data.sources.formats import FORMATS, list_format
from gan_distributed.data.sources.hubs import is_hub_name, resolve_hub
from gan_distributed.data.sources.idx import IMAGES_MAGIC, list_builtin, list_idx
from gan_distributed.data.sources.labels import MAX_LABEL_FILE_BYTES, is_label_file, label_images
from gan_distributed.data.sources.listing import Listing
from gan_distributed.data.sources.torchvision_set import list_torchvision
from gan_distributed.errors import AccessError, DataError, MissingError

KINDS = (
    "a folder of images, a .zip, .tar or .tar.gz of one, an IDX file, torchvision:CLASS?root=DIR, "
    f"builtin:fashion-mnist, or {FORMATS}"
)
_FIRST_BYTES = 2**16


@dataclass(frozen=True)
class FolderReader:
    """Reads files below a URL."""

    url: str
    threads: int

    def read(self, entry: Entry) -> bytes:
        """The file's bytes."""
        if entry.num_bytes > MAX_IMAGE_BYTES:
            raise oversized(entry)
        if self._folder is not None:
            # Asking fsspec for the filesystem takes longer than reading a small file. Whatever fails it explains below.
            with contextlib.suppress(OSError), open(f"{self._folder}/{entry.name}", "rb") as file:
                return file.read()
        try:
            return storage.read_bytes(storage.join(self.url, entry.name))
        except (AccessError, MissingError) as error:
            # On a disk that is this one file: a dead link, a private file. On a store it may be that a login ran out.
            if storage.local_path(self.url) is None:
                raise
            raise BadImageError("cannot be opened") from error

    @functools.cached_property
    def _folder(self) -> Path | None:
        return storage.local_path(self.url)


def open_source(source: str) -> Source:
    """The images at `source`, sorted by name; one of KINDS. The caller closes it.

    Raises an InputError where there is nothing to read.
    """
    temporary = TemporaryDirectory(prefix="gan-distributed-")
    try:
        opened = _opened(source, Path(temporary.name))
    except BaseException:
        temporary.cleanup()
        raise
    opened.temporary = temporary
    return opened


def _opened(source: str, folder: Path) -> Source:
    # Kinds that a prefix names. Each lists (entries, class names or None, reader); their labels are theirs to know.
    if source.startswith("builtin:"):
        return _listed(source, *list_builtin(source.removeprefix("builtin:"), folder), is_local=True, is_raw=True)
    if source.startswith("torchvision:"):
        return _listed(source, *list_torchvision(source), is_local=True, is_raw=True)
    if is_hub_name(source):
        source = resolve_hub(source)
    # Kinds that the bytes at a URL tell.
    listed = list_format(source, folder)
    if listed is not None:
        return _listed(source, *listed)
    url = storage.absolute(source)
    is_local = storage.local_path(url) is not None
    kind = _kind(url)
    if kind == "idx":
        return _listed(url, *list_idx(url, folder), is_local=True, is_raw=True)
    # Files of images: folders or a file of labels beside them give the classes.
    if kind == "zip":
        return _labelled(url, *list_zip(url), is_local)
    if kind == "tar":
        return _labelled(url, *list_tar(url), is_local)
    if kind == "tar.gz":
        return _labelled(url, *unpack_tar_gz(url, folder), True)
    return _labelled(url, _files(url), FolderReader(url, threads=1 if is_local else 16), is_local)


def _files(url: str) -> Iterator[Entry]:
    return (Entry(name, None, size) for name, size in folders.walk(url))


def _listed(
    source: str,
    found: Iterable[Entry],
    class_names: tuple[str, ...] | None,
    reader: Reader,
    is_local: bool,
    is_raw: bool = False,
) -> Source:
    """The entries as they were found, sorted."""
    return Source(_some(source, Listing(found)), class_names, reader, is_local, is_raw)


def _labelled(url: str, found: Iterable[Entry], reader: Reader, is_local: bool) -> Source:
    """The images among what was found, sorted, with the classes that folders or a file of labels give."""
    label_files: dict[str, Entry] = {}

    def images() -> Iterator[Entry]:
        for entry in found:
            if is_image(entry.name):
                yield entry
            elif is_label_file(entry.name):
                label_files[entry.name] = entry

    entries = _some(url, Listing(images()))
    try:
        names = label_images(url, entries, label_files, lambda name: _text(url, reader, label_files[name]))
    except BaseException:
        entries.close()
        raise
    return Source(entries, names, reader, is_local)


def _text(url: str, reader: Reader, entry: Entry) -> bytes:
    if entry.num_bytes > MAX_LABEL_FILE_BYTES:
        raise DataError(f"{url}: {entry.name} has {entry.num_bytes} bytes; mend it or take it away")
    try:
        data = reader.read(entry)
    except BadImageError as error:
        raise DataError(f"{url}: {entry.name}: {error}; mend it or take it away") from error
    return data if isinstance(data, bytes) else b""


def _some(url: str, entries: Listing) -> Listing:
    if not entries:
        entries.close()
        raise DataError(f"{url}: holds no images; give {KINDS}")
    return entries


def _kind(url: str) -> str:
    """`folder`, or what the first bytes of the file say that it is."""
    if storage.size(url) is None:
        if not storage.exists(url):
            raise DataError(f"{url}: there is nothing here; check the spelling, or give {KINDS}")
        # Raises where the folder may not be read; walking would find it empty.
        storage.names(url)
        return "folder"
    with storage.open_binary(url) as stream:
        start = stream.read(_FIRST_BYTES)
    if not start.startswith(b"\x1f\x8b"):
        return _kind_of_bytes(url, start, "")
    with contextlib.suppress(zlib.error):
        start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, _FIRST_BYTES)
    return _kind_of_bytes(url, start, ".gz")


def _kind_of_bytes(url: str, start: bytes, packed: str) -> str:
    if start[:4] == struct.pack(">I", IMAGES_MAGIC):
        return "idx"
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06") and not packed:
        return "zip"
    if start[257:262] == b"ustar" or url.lower().endswith((f".tar{packed}", ".tgz")):
        return f"tar{packed}"
    raise DataError(f"{url}: a file of an unknown kind, or damaged; give {KINDS}")
