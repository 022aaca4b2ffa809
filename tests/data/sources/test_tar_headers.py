"""Headers of tars as tarfile and GNU tar write them, against tarfile's own reading; damage is always told."""

import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_distributed.data.sources.entries import plain_name
from gan_distributed.data.sources.tar_headers import TarError, tar_members

names = st.text(st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1, max_size=150)
paths = st.lists(names, min_size=1, max_size=3).map("/".join).filter(lambda path: plain_name(path) == path)


def packed(files, form, **options):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, **options) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def listed(data):
    return [(name, data[offset : offset + size]) for name, offset, size in tar_members(io.BytesIO(data))]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(files=st.lists(st.tuples(paths, st.binary(max_size=1100)), min_size=1, max_size=4))
def test_any_names(form, files):
    assert listed(packed(files, form)) == files


@given(st.lists(st.binary(max_size=1100), min_size=1, max_size=4))
def test_old_ustar(contents):
    files = [("f" * 90 + "/" + "g" * 80 + f"{index}", data) for index, data in enumerate(contents)]
    assert listed(packed(files, tarfile.USTAR_FORMAT)) == files


def test_gnu_tar_with_all_it_knows(tmp_path):
    """Sparse files, links, folders, a pipe, long names: only plain files, at the places that tarfile tells."""
    folder = tmp_path / "in"
    (folder / ("d" * 120)).mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a" * 700)
    (folder / ("d" * 120) / ("n" * 130)).write_bytes(b"long")
    with (folder / "b.sparse").open("wb") as file:
        for index in range(40):
            file.seek(index * 2**17)
            file.write(b"x")
    (folder / "c.link").symlink_to("a.png")
    os.link(folder / "a.png", folder / "e.hard")
    os.mkfifo(folder / "f.pipe")
    (folder / "z.png").write_bytes(b"z")
    for form in ("gnu", "posix", "oldgnu"):
        path = tmp_path / f"{form}.tar"
        subprocess.run(["tar", "-C", folder, "--sparse", f"--format={form}", "-cf", path, "."], check=True)
        with tarfile.open(path) as archive:
            wanted = [
                (plain_name(info.name), info.offset_data, info.size)
                for info in archive
                if info.isreg() and not info.issparse()
            ]
        with path.open("rb") as stream:
            assert list(tar_members(stream)) == wanted
        assert len(wanted) == 3


def test_sizes_beyond_octal():
    """9 GiB in one member, told in base 256 and in pax; the bytes are not there, which is told, too."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("big.bin")
        info.size = 9 * 2**30
        members = tar_members(io.BytesIO(info.tobuf(form)))
        assert next(members).num_bytes == 9 * 2**30
        with pytest.raises(TarError, match="ends within a file"):
            next(members)


@given(st.integers(1, 11_000))
def test_any_cut_is_told(length):
    files = [(f"{index}.png", bytes([index]) * 900) for index in range(7)]
    whole = packed(files, tarfile.PAX_FORMAT)
    # The first block of zeros ends the archive; what follows is padding.
    end = 7 * (512 + 1024) + 512
    if length < end:
        with pytest.raises(TarError):
            listed(whole[:length])
    else:
        assert listed(whole[:length]) == files


@settings(max_examples=300)
@given(st.data())
def test_any_damage_is_told_or_read(data):
    whole = bytearray(packed([("n" * 120, b"1" * 600), ("b.png", b"2" * 600)], tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 4607))] = data.draw(st.integers(0, 255))
    try:
        found = list(tar_members(io.BytesIO(bytes(whole))))
    except TarError:
        return
    assert len(found) <= 9


def test_huge_headers_are_not_read():
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info = tarfile.TarInfo("long")
        info.type, info.size = kind, 2**30
        with pytest.raises(TarError, match="a header of 1073741824 bytes"):
            listed(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**12))
