"""Networks and a loss of a user's own, as docs/extending.md has them, through all commands."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import train_words
from datasets import write_dataset
from in_process import train_here
from PIL import Image

from gan_distributed.config import load_config
from gan_distributed.config.own import folder_of, load_own
from gan_distributed.errors import ConfigError, InputError
from gan_distributed.evaluate import evaluate
from gan_distributed.export import export
from gan_distributed.generate import generate
from gan_distributed.models.family import Family
from gan_distributed.models.networks import ImageSpec, build_generator
from gan_distributed.plan import plan
from gan_distributed.training.own_parts import check_own_parts

JOBS = Path(__file__).parent.parent / "jobs"
PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
FAMILY, LOSS = (block.split("```")[0] for block in PAGE.split("```python\n")[1:])
SETTINGS = ["model.family=my_family:family", "model.options={width: 8}", "loss.name=my_loss:loss"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_family.py").write_text(FAMILY)
    (folder / "my_loss.py").write_text(LOSS)
    write_dataset(str(folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


def spec(folder: Path, **settings) -> tuple:
    config = load_config(None, {"model.family": "my_family:family", "model.latent_dim": 8} | settings)
    return config, ImageSpec(32, 1, 3)


def test_a_plan_for_networks_of_ones_own_wants_a_measured_rate(folder, capsys):
    words = {"recipe": str(JOBS / "demo.yaml"), "workers": 1, "set_": SETTINGS[:2]}
    plan(**words, images_per_s=100.0)
    assert "1 x worker" in capsys.readouterr().out
    with pytest.raises(InputError, match="my_family:family: the work of your own networks is not counted"):
        plan(**words, gpu="L4")


@pytest.fixture(scope="module")
def trained(folder):
    assert train_here(folder, str(folder / "data"), *SETTINGS, "model.conditional=true") == 0
    return folder / "runs" / "r"


def test_the_pages_family_and_loss_go_through_the_commands(folder, trained, tmp_path, capsys):
    generate(str(trained), str(tmp_path / "images"), num=2, label="left")
    assert np.asarray(Image.open(tmp_path / "images" / "000001.png")).shape == (32, 32)
    capsys.readouterr()
    export(str(trained), str(tmp_path / "exported"), format_=["torch-export"], as_json=True)
    card = json.loads(capsys.readouterr().out)
    assert card["family"] == "my_family:family"
    assert card["recipe"]["model"]["options"] == {"width": 8}
    evaluate(str(trained), str(folder / "data"), metric=["swd"], num_images=32)
    assert capsys.readouterr().out.splitlines()[1].startswith("swd ")


@pytest.mark.slow
def test_workers_of_ray_find_them_where_the_command_did(folder):
    words = train_words(folder, str(folder / "data"), str(folder / "ray-runs"), 2, *SETTINGS)
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=1200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "ray-runs" / "r" / "DONE.json").exists()


def test_first_weights_are_those_of_the_seed(folder):
    config, images = spec(folder)
    first, again, other = (build_generator(config.model, images, seed).state_dict() for seed in (1, 1, 2))
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["up.weight"].equal(other["up.weight"])
    assert folder_of("my_family:family") == str(folder)


CONV = "nn.Conv2d(channels, 32, 4, 4)"
FAILING = {
    "dropped": (CONV, f"nn.Sequential({CONV}, nn.Dropout())"),
    "normed": ("self.norm = BatchNorm(self.width)", "self.norm = nn.BatchNorm2d(self.width)"),
    "squared": (".squeeze(1)", ""),
    "small": ("nn.ConvTranspose2d(self.width, channels, 4, 4)", "nn.ConvTranspose2d(self.width, channels, 2, 2)"),
    "failing": ("return self.up(", "return self.down("),
    "sized": ("Family(Generator, Discriminator)", "Family(Generator, Discriminator, resolutions=(64,))"),
    "typed": ("Family(Generator, Discriminator)", "Generator"),
    "broken": ("from torch import nn", "from torch import nnn"),
}


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (
            "dropped",
            "discriminator.conv.1 is a Dropout, which draws anew after a resume; take models.layers.FeatureDropout",
        ),
        ("normed", "generator.norm is a BatchNorm2d, which keeps statistics of each worker's own images"),
        ("squared", "its discriminator makes (2, 1) of 2 images, a logit each is wanted: (2,)"),
        ("small", "its generator makes (2, 1, 16, 16) of 2 latents, (2, 1, 32, 32) is wanted"),
        ("failing", "its generator fails on (2, 8): AttributeError: 'Generator' object has no attribute 'down'"),
        ("sized", "model.family sized:family makes 64 px images, the data set has 32"),
        ("typed", "where gan_distributed.models.family.Family is wanted; see docs/extending.md"),
        ("broken", "importing broken failed: ImportError: cannot import name 'nnn' from 'torch'"),
    ],
)
def test_what_would_go_wrong_is_told_in_a_line(folder, module, told):
    before, after = FAILING[module]
    assert before in FAMILY
    (folder / f"{module}.py").write_text(FAMILY.replace(before, after))
    config, images = spec(folder, **{"model.family": f"{module}:family"})
    with pytest.raises(ConfigError) as caught:
        check_own_parts(config, images)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such:family", "model.family no_such:family: there is no module no_such; start where it lies"),
        ("my_family.more:x", "there is no module my_family.more; start where it lies"),
        ("my_family:famly", "my_family has no famly; did you mean family?"),
    ],
)
def test_a_bad_name_is_told_in_a_line(folder, name, told):
    with pytest.raises(ConfigError) as caught:
        load_own(name, "model.family", Family)
    assert told in str(caught.value)


def test_what_a_loss_or_network_cannot_do_is_refused(folder):
    (folder / "margins.py").write_text(LOSS.replace("generator, 0.0)", "generator, None)"))
    config, images = spec(folder, **{"loss.name": "margins:loss", "augment.p": "adaptive", "augment.policy": ["color"]})
    with pytest.raises(ConfigError, match="which have no boundary in loss.name margins:loss"):
        check_own_parts(config, images)
    mixing = FAMILY.replace("self.conv = nn.Conv2d", "self.norm = BatchNorm(32)\n        self.conv = nn.Conv2d")
    (folder / "mixing.py").write_text(mixing)
    config, images = spec(folder, **{"model.family": "mixing:family", "loss.gp_weight": 10})
    with pytest.raises(ConfigError, match="which the discriminator of mixing:family mixes"):
        check_own_parts(config, images)
