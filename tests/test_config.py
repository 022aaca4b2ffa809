"""Recipes: every mistake is told by its key's path, in one line; every recipe of the repository is right."""

from pathlib import Path

import pytest

from gan_distributed.config import differences, load_config, parse_config, parse_overrides, to_yaml
from gan_distributed.errors import ConfigError

JOBS = sorted((Path(__file__).parent.parent / "jobs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("training.batch_sise", 3, "training.batch_sise: unknown key; did you mean training.batch_size?"),
        ("traning.batch_size", 3, "traning: unknown key; did you mean training?"),
        ("training.batch_size", "many", "training.batch_size: Input should be a valid integer"),
        ("training.batch_size", 0, "training.batch_size: Input should be greater than or equal to 1"),
        ("optimizer.generator.lr", -1, "optimizer.generator.lr: Input should be greater than 0"),
        ("optimizer.generator.lr", {"start": 1, "kimg": 2}, "optimizer.generator.lr.end: Field required"),
        ("training.total_kimg", float("nan"), "training.total_kimg"),
        ("loss.name", "bse", "loss.name: 'bse' is no loss; did you mean bce? Known: bce, hinge, lsgan, wgan, rpgan"),
        (
            "model.family",
            "stylegan",
            "model.family: 'stylegan' is no family; did you mean sngan? Known: dcgan, convnet, sngan, biggan, r3gan",
        ),
        ("model.family", "a b:c", "or your own as module:object"),
        ("model.options", {"depth": 3}, "model: options are for a family of your own, not for dcgan; remove them"),
        ("run_id", "../elsewhere", "run_id"),
        ("samples.every_kimg", "epok", "samples.every_kimg"),
        ("model.batch_norm_groups", 3, "model.batch_norm_groups 3 must divide data.num_lanes 64"),
        ("cluster.workers", 65, "cluster.workers 65 is more than data.num_lanes 64"),
        ("cluster.workers", "2..65", "cluster.workers 2..65 is more than data.num_lanes 64"),
        ("cluster.workers", "8..2", "cluster.workers: 8..2: fewest..most, both at least 1"),
        ("cluster.workers", "0..2", "cluster.workers: 0..2: fewest..most, both at least 1"),
        ("cluster.workers", "many", "cluster.workers: write a number from 0 on, or fewest..most as in 2..8"),
        ("cluster.workers", -1, "cluster.workers: write a number from 0 on"),
        ("cluster.stall_timeout_s", 500, "cluster: collective_timeout_s 420 must be more than stall_timeout_s 500"),
        ("optimizer.generator.beta2", {"start": 0.9, "end": 1, "kimg": 1}, "optimizer.generator: beta2 reaches 1.0"),
        ("loss.r1_every", 0, "loss.r1_every: Input should be greater than or equal to 1"),
        ("loss.name", "wgan", "loss.name wgan needs a gradient penalty"),
        ("loss.gp_weight", 10, "loss.gp_weight is for each image's own gradient, which batch norm mixes"),
        ("augment.policy", ["colour"], "augment.policy: Input should be 'xflip', 'rotate90', 'translation', 'color'"),
        ("augment.policy", ["colour"], ", found 'colour'; did you mean color?"),
        ("augment.policy", ["color", "color"], "augment: policy names a change twice: color, color"),
        (
            "augment.policy",
            ["color", "xflip"],
            "augment: policy xflip with p 1.0: the generator would make such",
        ),
        ("augment.p", 1.5, "augment.p: Input should be less than or equal to 1"),
        ("augment.p", {"start": 0, "end": 1.5, "kimg": 1}, "augment: p ends at 1.5, a probability is at most 1"),
        ("augment.p", "adaptive", "augment: p adaptive has nothing to act on"),
        ("training.reduction_precision", "float16", "training.reduction_precision: Input should be 'bf16'"),
        ("training.micro_batch_size", 32, "training.micro_batch_size 32 must be whole batch-norm groups of 64 images"),
    ],
)
def test_a_mistake_is_one_line_with_its_path(key, value, told):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {key: value})
    message = str(caught.value)
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("given", "workers", "worker_range"),
    [(None, None, None), (0, 0, (0, 0)), ("3", 3, (3, 3)), ("2..8", "2..8", (2, 8)), ("4..4", 4, (4, 4))],
)
def test_workers_are_a_number_or_fewest_and_most(given, workers, worker_range):
    cluster = load_config(None, {"cluster.workers": given}).cluster
    assert (cluster.workers, cluster.worker_range) == (workers, worker_range)


def test_contradiction_names_both_fields():
    with pytest.raises(ConfigError, match=r"loss: label_smoothing 0.1 needs name bce, not hinge"):
        load_config(None, {"loss.label_smoothing": 0.1, "loss.name": "hinge"})


def test_sums_may_not_be_coarser_than_float64_asks_for():
    values = {"training.precision": "float64", "training.reduction_precision": "bf16"}
    with pytest.raises(ConfigError, match=r"training: reduction_precision bf16 would round away .* precision float64"):
        load_config(None, values)


@pytest.mark.parametrize("graphs", ["compile", "cuda_graphs"])
def test_gradients_that_come_at_once_are_not_summed_in_buckets(graphs):
    values = {"training.reduction_bucket_mb": 25, f"training.{graphs}": True}
    with pytest.raises(ConfigError, match=rf"training: reduction_bucket_mb 25 sums .* or {graphs} to false"):
        load_config(None, values)


@pytest.mark.parametrize(
    ("family", "option", "value", "told"),
    [
        (
            "sngan",
            "discriminator_batch_norm",
            False,
            "discriminator_batch_norm False is an option of dcgan, not of sngan",
        ),
        ("r3gan", "discriminator_dropout", 0.0, "is an option of dcgan and convnet, not of r3gan; set it to null"),
        ("convnet", "attention", True, "attention True is an option of biggan, not of convnet"),
        ("dcgan", "embedding_dim", 8, "embedding_dim 8 is an option of biggan and r3gan, not of dcgan"),
        ("biggan", "embedding_dim", 8, "embedding_dim 8 needs conditional true"),
        ("r3gan", "batch_norm_groups", 8, "batch_norm_groups 8 is for dcgan, convnet, sngan, biggan; r3gan has no"),
    ],
)
def test_options_of_other_families_are_refused_and_null_is_not(family, option, value, told):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"model.family": family, f"model.{option}": value})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    config = load_config(
        None, {"model.family": family} | ({} if option == "batch_norm_groups" else {f"model.{option}": None})
    )
    assert parse_config(to_yaml(config), "resolved") == config


def test_adaptive_augmentation_needs_a_loss_whose_logits_have_a_zero():
    values = {"augment.policy": ["color"], "augment.p": "adaptive", "loss.r1_gamma": 1}
    assert load_config(None, values).augment.adaptive
    for loss in ("wgan", "rpgan"):
        with pytest.raises(ConfigError, match=f"augment.p adaptive reads the sign .* in loss.name {loss}"):
            load_config(None, values | {"loss.name": loss})


def test_augmentation_is_part_of_the_identity_and_the_size_of_micro_batches_is_not():
    config = load_config(None)
    assert differences(config, load_config(None, {"augment.flip": True})) == {"augment.flip": (False, True)}
    assert differences(config, load_config(None, {"training.micro_batch_size": 64})) == {}


def test_two_mistakes_are_two_lines():
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"seed": -1, "training.x": 1})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training: {batch_size: 1}\ntraining: {batch_size: 2}", "'training' twice"),
        ("- 1", "a recipe is a mapping"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
    ],
)
def test_bad_yaml_names_the_file(tmp_path, text, told):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        load_config(str(path))
    assert str(path) in str(caught.value)


def test_missing_recipe_is_told():
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("/nowhere.yaml")


def test_overrides_are_read_as_yaml_and_win(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizer: {generator: {lr: 1e-3}}\ntraining: {batch_size: 32}\n")
    config = load_config(str(path), parse_overrides(["training.batch_size=16", "samples.every_kimg=null"]))
    assert (config.optimizer.generator.lr, config.training.batch_size, config.samples.every_kimg) == (1e-3, 16, None)
    with pytest.raises(ConfigError, match=r"section\.field=value"):
        parse_overrides(["training.batch_size"])


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_recipe_is_right_and_survives_its_own_yaml(path):
    config = load_config(str(path))
    assert parse_config(to_yaml(config), "resolved") == config


def test_identity_leaves_out_where_and_how_often():
    base = load_config(None)
    free = {"cluster.workers": 3, "data.url": "x", "output": "y", "checkpoint.every_kimg": 1, "metrics.port": None}
    assert load_config(None, free).digest == base.digest
    other = load_config(None, {"loss.r1_gamma": 1.0})
    assert other.digest != base.digest
    assert differences(base, other) == {"loss.r1_gamma": (0.0, 1.0)}


def test_storage_options_are_used_and_never_written():
    config = load_config(None, {"data.storage_options": {"token": "secret", "requester_pays": True}})
    assert config.data.storage_options["token"] == "secret"
    assert "secret" not in to_yaml(config)
    assert config.digest == load_config(None).digest == parse_config(to_yaml(config), "here").digest


def test_how_data_is_read_is_not_part_of_the_identity():
    plain = load_config(None)
    for key, value in {
        "data.gather_threads": 4,
        "data.map_local": False,
        "data.cache_bytes": 10,
        "data.cache_folder": "/elsewhere",
        "data.read_timeout_s": 3.0,
    }.items():
        assert load_config(None, {key: value}).digest == plain.digest, key
    assert load_config(None, {"data.window_blocks": 5}).digest != plain.digest


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("data.url", "s3://key:hunter2@bucket/set"),
        ("output", "https://user:hunter2@host/runs"),
        ("from_checkpoint", "https://host/runs/r?X-Amz-Signature=hunter2"),
        ("score.weights", "https://host/weights.pth?sv=1&sig=hunter2"),
    ],
)
def test_a_url_with_a_credential_is_refused_and_not_repeated(key, url):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {key: url})
    assert f"{key}: the URL holds a password or a signature" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    load_config(None, {key: "gs://bucket/a@b:c/file?x=1"})


@pytest.mark.parametrize(
    "text",
    [
        "data: {storage_options: {password: hunter2",
        "data: {storage_options: hunter2}",
        "data:\n  storage_options:\n    password: 'hunter2\n",
        "data: {storage_options: [hunter2]}",
    ],
)
def test_mistakes_beside_a_credential_do_not_repeat_it(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_overrides(["data.storage_options.password='hunter2"])
    assert "hunter2" not in str(caught.value)


def test_a_limit_below_the_interval_of_checkpoints_is_refused():
    with pytest.raises(ConfigError, match="checkpoint: max_unsaved_kimg 100 must be above every_kimg 100"):
        load_config(None, {"checkpoint.max_unsaved_kimg": 100, "checkpoint.every_kimg": 100})
    assert load_config(None, {"checkpoint.max_unsaved_kimg": None}).checkpoint.max_unsaved_kimg is None
