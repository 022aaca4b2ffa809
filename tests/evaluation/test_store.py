"""Kept arrays: found again, never taken where damaged, and put elsewhere where a folder refuses."""

import numpy as np
import pytest

from gan_distributed.evaluation.store import Store

ARRAYS = {"rows": np.arange(12.0).reshape(3, 4), "count": np.array(3)}
SETTINGS = {"dataset": "abc", "seed": 0}


def test_arrays_are_found_by_their_settings(tmp_path):
    store = Store((str(tmp_path),), pytest.fail)
    assert store.load("moments", SETTINGS) is None
    store.save("moments", SETTINGS, ARRAYS)
    found = store.load("moments", SETTINGS)
    assert found is not None
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in ARRAYS.items()
    }
    assert store.load("moments", SETTINGS | {"seed": 1}) is None
    assert store.load("features", SETTINGS) is None


@pytest.mark.parametrize("name", ["index.json", "arrays-*.npz"])
def test_damage_is_told_and_mended(tmp_path, name, caplog):
    store = Store((str(tmp_path),), pytest.fail)
    store.save("moments", SETTINGS, ARRAYS)
    (path,) = tmp_path.glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-20])
    assert store.load("moments", SETTINGS) is None
    assert "computed anew" in caplog.text
    store.save("moments", SETTINGS, ARRAYS)
    assert store.load("moments", SETTINGS) is not None


def test_arrays_without_an_index_do_not_exist(tmp_path):
    store = Store((str(tmp_path),), pytest.fail)
    store.save("moments", SETTINGS, ARRAYS)
    (index,) = tmp_path.glob("*/index.json")
    index.unlink()
    assert store.load("moments", SETTINGS) is None


def test_where_the_data_cannot_be_written_the_run_keeps_them(tmp_path):
    # A file stands where the folder would be; a mode would not stop a superuser.
    (tmp_path / "data").write_text("")
    said = []
    store = Store((str(tmp_path / "data" / "evaluation"), str(tmp_path / "run")), said.append)
    store.save("moments", SETTINGS, ARRAYS)
    (line,) = said
    assert line.startswith(f"moments cannot be kept in {tmp_path}/data/evaluation (")
    assert line.endswith(f"kept in {tmp_path}/run")
    assert store.load("moments", SETTINGS) is not None
    nowhere = Store((str(tmp_path / "data" / "evaluation"),), said.append)
    nowhere.save("moments", SETTINGS, ARRAYS)
    assert said[-1].endswith("kept in nowhere")
