"""What lies below a folder at any URL, a page at a time, so that memory does not grow with the number of objects."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from gan_distributed.data import storage
from gan_distributed.data.local_files import TEMPORARY
from gan_distributed.errors import MissingError

_PAGE_OBJECTS = 1000
# The objects of a page, as (key, bytes), and what asks for the next page, None after the last.
Page = tuple[list[tuple[str, int]], str | None]


def walk(url: str) -> Iterator[tuple[str, int]]:
    """(path relative to `url`, bytes) of every object below a folder, in no order; linked folders are followed.

    Local folders, gs:// and s3:// come in pages; other stores a folder at a time.
    """
    if storage.local_path(url) is not None:
        path = storage.call(url, lambda _, path: path)
        found = _walk_disk(url, path, "", {os.path.realpath(path)})
    elif storage.protocol(url) in ("gs", "gcs"):
        found = _walk_pages(url, _gcs_page)
    elif storage.protocol(url) in ("s3", "s3a"):
        found = _walk_pages(url, _s3_page)
    else:
        found = _walk_folders(url, storage.call(url, lambda _, path: path.rstrip("/")), "")
    return ((name, num_bytes) for name, num_bytes in found if f"/{TEMPORARY}" not in f"/{name}")


def _walk_disk(url: str, folder: str, prefix: str, above: set[str]) -> Iterator[tuple[str, int]]:
    try:
        entries = storage.call(url, lambda *_: os.scandir(folder))
    except MissingError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                # A link to a folder above would go round for ever.
                if real not in above:
                    yield from _walk_disk(url, entry.path, f"{prefix}{entry.name}/", above | {real})
                continue
            try:
                num_bytes = entry.stat().st_size
            except OSError:
                # A link to nothing is listed: whoever reads it tells.
                num_bytes = 0
            yield prefix + entry.name, num_bytes


def _walk_pages(url: str, page_of: Callable[[Any, str, str, str | None], Page]) -> Iterator[tuple[str, int]]:
    bucket, _, folder = storage.call(url, lambda _, path: path.rstrip("/")).partition("/")
    prefix = folder + "/" if folder else ""
    token: str | None = None

    def next_page(token: str | None, store: Any, _: str) -> Page:
        return page_of(store, bucket, prefix, token)

    while True:
        try:
            found, token = storage.call(url, functools.partial(next_page, token))
        except MissingError:
            return
        # A bucket may list a folder as an empty object.
        yield from ((key[len(prefix) :], num_bytes) for key, num_bytes in found if not key.endswith("/"))
        if token is None:
            return


def _gcs_page(store: Any, bucket: str, prefix: str, token: str | None) -> Page:
    fields = "nextPageToken,items(name,size)"
    asked = {"prefix": prefix, "pageToken": token, "maxResults": _PAGE_OBJECTS, "fields": fields}
    page = store.call("GET", "b/{}/o", bucket, json_out=True, **asked)
    return [(item["name"], int(item["size"])) for item in page.get("items", [])], page.get("nextPageToken")


def _s3_page(store: Any, bucket: str, prefix: str, token: str | None) -> Page:
    more = {"ContinuationToken": token} if token else {}
    asked = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": _PAGE_OBJECTS}
    page = store.call_s3("list_objects_v2", **asked, **more, **store.req_kw)
    found = [(item["Key"], int(item["Size"])) for item in page.get("Contents", [])]
    return found, page.get("NextContinuationToken") if page.get("IsTruncated") else None


def _walk_folders(url: str, folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        entries: list[dict[str, Any]] = storage.call(url, lambda store, _: store.ls(folder, detail=True, refresh=True))
    except MissingError:
        return
    for entry in entries:
        place = str(entry["name"]).rstrip("/")
        name = place.rsplit("/", 1)[-1]
        if not name or place == folder:
            continue
        if entry["type"] == "directory":
            yield from _walk_folders(url, place, f"{prefix}{name}/")
        else:
            yield prefix + name, int(entry["size"] or 0)
