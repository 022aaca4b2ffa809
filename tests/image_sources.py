"""The same files of images as a folder, in memory or as an archive."""

import io
import tarfile
import zipfile

from PIL import Image

from gan_distributed.data import storage
from gan_distributed.data.sources.opening import open_source


def png(value=0):
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    return file.getvalue()


CATS_AND_DOGS = {"dog/b.png": png(1), "cat/a.png": png(2), "cat/c.PNG": png(3), "dog/notes.txt": b"woof"}


def make(kind, files, folder):
    """The files as a folder or an archive; returns its URL."""
    if kind == "folder":
        for name, data in files.items():
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(folder / "images")
    if kind == "memory":
        for name, data in files.items():
            storage.write(f"memory://{folder}/{name}", data)
        return f"memory://{folder}"
    path = folder / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return str(path)


KINDS = ["folder", "memory", "zip", "tar", "tar.gz", "tgz"]


def listed(url):
    """[(name, class)] of a source."""
    with open_source(url) as source:
        names = source.class_names
        return [(entry.name, names[entry.label] if names else None) for entry in source.entries]
