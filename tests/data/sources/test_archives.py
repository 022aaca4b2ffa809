"""Archives that are damaged, that lie about their sizes, or whose names climb."""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_sources import listed, make, png

from gan_distributed.data.sources import archives, entries, opening
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_names_that_climb_are_only_names(kind, tmp_path):
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    files = {"../../evil.png": png(1), "/etc/evil.png": png(2), "cat/../x.png": png(3)}
    before = set(tmp_path.rglob("*"))
    with open_source(make(kind, files, inside)) as source:
        assert sorted(entry.name for entry in source.entries) == ["../../evil.png", "cat/../x.png", "etc/evil.png"]
        assert {source.open_image(index) for index in range(3)} == {png(1), png(2), png(3)}
    assert set(tmp_path.rglob("*")) - before == {inside / f"images.{kind}"}


def test_links_and_devices_in_a_tar_are_ignored(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in {"l.png": tarfile.SYMTYPE, "h.png": tarfile.LNKTYPE, "d.png": tarfile.CHRTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = len(png())
        archive.addfile(info, io.BytesIO(png()))
    assert listed(str(tmp_path / "x.tar")) == [("good.png", None)]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_a_huge_member_is_refused_unread(kind, tmp_path, monkeypatch):
    for module in (entries, archives, opening):
        monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 2**20)
    files = {"a.png": png(), "bomb.png": bytes(3 * 2**20), "c.png": png(7)}
    with open_source(make(kind, files, tmp_path)) as source:
        assert source.open_image(0) == png()
        with pytest.raises(BadImageError, match="3145728 bytes, more than 1 MiB"):
            source.open_image(1)
        assert source.open_image(2) == png(7)
        if kind == "tar.gz":
            assert Path(source.reader.url).stat().st_size < 2**20


def test_a_zip_member_cannot_give_more_than_it_declares(tmp_path):
    """The header of a bomb says 100 bytes; what unpacks beyond is never read."""
    path = Path(make("zip", {"bomb.png": bytes(50 * 2**20)}, tmp_path))
    lying = path.read_bytes().replace(struct.pack("<I", 50 * 2**20), struct.pack("<I", 100))
    path.write_bytes(lying)
    with open_source(str(path)) as source, pytest.raises(BadImageError, match="damaged in the archive"):
        source.open_image(0)


def test_a_tar_header_of_a_gigabyte_is_refused(tmp_path):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**16)))
    with pytest.raises(DataError, match="damaged or incomplete"):
        open_source(str(tmp_path / "x.tar.gz"))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_cut_archives(kind, tmp_path):
    generator = np.random.default_rng(0)
    path = Path(make(kind, {f"{index}.png": generator.bytes(5000) for index in range(5)}, tmp_path))
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="damaged or incomplete|ends within|unknown kind"):
            open_source(str(path))


def test_a_damaged_or_encrypted_zip_member(tmp_path):
    path = Path(make("zip", {"a.png": png(1), "b.png": png(2)}, tmp_path))
    data = bytearray(path.read_bytes())
    data[data.index(b"a.png") + 10] ^= 0xFF
    # Bit 0 of the flags of the last entry of the central directory: encrypted.
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with open_source(str(path)) as source:
        with pytest.raises(BadImageError, match="damaged in the archive"):
            source.open_image(0)
        with pytest.raises(BadImageError, match="encrypted"):
            source.open_image(1)


def test_of_two_members_of_a_name_the_later_counts(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("a.png", png(2))
    with open_source(str(tmp_path / "x.zip")) as source:
        assert len(source.entries) == 1
        assert source.open_image(0) == png(2)


def test_a_tar_that_became_shorter(tmp_path):
    path = Path(make("tar", {"a.png": png(1), "b.png": png(2)}, tmp_path))
    with open_source(str(path)) as source:
        path.write_bytes(path.read_bytes()[: source.entries[1].position + 5])
        assert source.open_image(0) == png(1)
        with pytest.raises(BadImageError, match="shorter"):
            source.open_image(1)
