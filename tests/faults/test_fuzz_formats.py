"""Spoiled recipes, manifests, shards and commits are read, or one of errors.py's errors tells it: no traceback."""

import contextlib
import json
from collections import Counter

import pytest
import yaml
from datasets import write_dataset
from fuzzing import changed_bytes, changed_tree, examples, scalars, told, tried, within_bounds
from hypothesis import given
from hypothesis import strategies as st
from streaming import read

from gan_distributed.config import load_config, parse_config, parse_overrides, to_yaml
from gan_distributed.data import attempts, storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import CheckpointError, ConfigError, DataError, GanError, ResumeError
from gan_distributed.training.checkpoint import (
    checkpoints_newest_first,
    commit_checkpoint,
    newest_checkpoint,
    open_checkpoint,
)
from gan_distributed.training.retention import collect_orphans
from gan_distributed.training.run_folder import RunFolder


@pytest.fixture(scope="module", autouse=True)
def count():
    """Tell how many inputs were tried (pytest -s)."""
    before = Counter(tried)
    yield
    print(f"\n{told(before)}")


# Recipes


@given(st.data())
@examples(120)
def test_recipes(data):
    tree = yaml.safe_load(to_yaml(load_config(None)))
    text = yaml.safe_dump(changed_tree(data, tree), allow_unicode=True)
    with within_bounds("recipe", ConfigError):
        parse_config(text, "recipe.yaml")


@given(st.data())
@examples(150)
def test_recipes_of_any_text(data):
    text = data.draw(
        st.text(max_size=60)
        | st.text("{}[]:,-&*!|>'\"#%@`? \n\tab01", max_size=60)
        | st.just(to_yaml(load_config(None))).map(lambda whole: whole[: len(whole) // 3])
    )
    if data.draw(st.booleans()):
        text = changed_bytes(data, text.encode("utf-8", "surrogatepass") or b"a").decode("utf-8", "replace")
    with within_bounds("recipe", ConfigError):
        parse_config(text, "recipe.yaml")


@given(st.text(max_size=20), scalars.map(str) | st.text("{}[]:,-&*!|>'\" ab01.", max_size=30))
@examples(150)
def test_overrides(key, value):
    with within_bounds("override", ConfigError):
        load_config(None, parse_overrides([f"{key}={value}"]))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 50_000,
        "{a: " * 5_000,
        "seed: " + "9" * 5_000,
        "&a [*a]",
        "training: &t\n  batch_size: *t",
        "? [1, 2]\n: 3",
        "? {a: b}\n: 3",
        "<<: 3",
        "<<: [*a]",
        "seed: 2001-99-99",
        "!!binary x: 1",
        "seed: !!int 0b",
        "seed: 1:99:99",
        "{1: 2, null: 3}",
        "\ufeff- 1",
        "seed: !!timestamp 2000-01-01 99:00:00",
    ],
    ids=range(17),
)
def test_recipes_that_aim_at_the_parser(text):
    with within_bounds("recipe", ConfigError), pytest.raises(ConfigError):
        parse_config(text, "recipe.yaml")
    with within_bounds("override", ConfigError):
        load_config(None, parse_overrides([f"training.batch_size={text}"]))


# Manifest and shards


def manifest_of(tree):
    storage.write("memory://fuzzed/set/manifest.json", json.dumps(tree).encode())
    return load_manifest("memory://fuzzed/set")


@given(st.data())
@examples(120)
def test_manifests(data):
    whole = write_dataset("memory://fuzzed/set", num=40, shard_rows=16, block_rows=8)
    tree = changed_tree(data, json.loads(whole.to_json()))
    with within_bounds("manifest", DataError):
        found = manifest_of(tree)
        # What is accepted can be read, or is told.
        if found != whole:
            with contextlib.suppress(GanError):
                read("memory://fuzzed/set", num=1)


@given(st.data())
@examples(100)
def test_manifests_of_any_bytes(data):
    whole = write_dataset("memory://fuzzed/set", num=40, shard_rows=16, block_rows=8).to_json()
    storage.write("memory://fuzzed/set/manifest.json", changed_bytes(data, whole))
    with within_bounds("manifest", DataError):
        load_manifest("memory://fuzzed/set")


@pytest.mark.parametrize("name", ["shards/00001.npy", "labels.npy", "blocks.crc32c"])
@pytest.mark.parametrize("place", ["path", "memory"])
def test_shards_labels_and_checksums(tmp_path, monkeypatch, name, place):
    # What is cut short on a store may be of the way, and is asked for again until then.
    monkeypatch.setattr(attempts, "RETRY_DEADLINE_S", 0.3)
    url = str(tmp_path / "set") if place == "path" else "memory://fuzzed/shards"
    write_dataset(url)
    whole = storage.read_bytes(f"{url}/{name}")

    @given(st.data())
    @examples(15)
    def damaged(data):
        content = changed_bytes(data, whole)
        storage.write(f"{url}/{name}", content)
        with within_bounds("shard", GanError):
            read(url)
            # The header of a mapped or fetched shard is not what is read.
            assert content[128:] == whole[128:]

    damaged()


# Checkpoints


def committed(run):
    storage.delete_folder(run.url)
    for seen_images, state in ((1000, b"one"), (2000, b"two")):
        contents = {
            "state": ("state-{attempt}.pt", state),
            "generator": ("generator-{attempt}.safetensors", b"weights"),
        }
        commit_checkpoint(run, seen_images, 1, contents, lambda: None)
    return storage.read_bytes(f"{run.checkpoint_url(2000)}/COMMIT.json")


def resume(content):
    """What a resume does with a commit of these bytes."""
    run = RunFolder("memory://fuzzed/run")
    committed(run)
    storage.write("memory://fuzzed/secret", b"two")
    storage.write(f"{run.checkpoint_url(2000)}/COMMIT.json", content)
    with within_bounds("COMMIT.json", CheckpointError, ResumeError):
        open_checkpoint(run.checkpoint_url(2000)).read("state")
    with within_bounds("COMMIT.json", ResumeError):
        checkpoint, state = newest_checkpoint(run, "state")
        assert (checkpoint.seen_images, state) in ((2000, b"two"), (1000, b"one"))
        assert checkpoint.url == run.checkpoint_url(checkpoint.seen_images)
        collect_orphans(run, checkpoint.seen_images)
        # The one that was chosen is there, whole.
        assert newest_checkpoint(run, "state")[1] == state
        assert checkpoint.url in list(checkpoints_newest_first(run))
    assert storage.read_bytes("memory://fuzzed/secret") == b"two"


@given(st.data())
@examples(120)
def test_commits(data):
    resume(json.dumps(changed_tree(data, json.loads(committed(RunFolder("memory://fuzzed/whole"))))).encode())


@given(st.data())
@examples(80)
def test_commits_of_any_bytes(data):
    whole = committed(RunFolder("memory://fuzzed/whole"))
    resume(changed_bytes(data, whole))
