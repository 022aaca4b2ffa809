"""A file on this machine's disk that appears whole or not at all: by a link or rename, once its bytes are safe."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

# What a name starts with while its file is written.
TEMPORARY = ".tmp-"
# The umask can only be read by setting it: once, at import, before there are threads.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def write_local(path: Path, fill: Callable[[IO[bytes]], object], replace: bool) -> None:
    """Write a file by `fill`. replace: over what is there; else raises FileExistsError where something is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise PermissionError(f"the folder {path.parent} cannot be made") from error
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
