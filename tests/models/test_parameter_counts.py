"""Networks at their published sizes have as many parameters as published, layer by layer."""

import itertools

import pytest

from gan_distributed.config import ModelConfig
from gan_distributed.models.networks import ImageSpec, num_parameters


def count(class_name: str, family: str, resolution: int, num_classes: int = 0, **options) -> int:
    config = ModelConfig(family=family, conditional=num_classes > 0, **options)
    counts = num_parameters(config, ImageSpec(resolution, 3, num_classes))
    return dict(zip(("Generator", "Discriminator"), counts, strict=True))[class_name]


def conv(above: int, below: int, size: int = 3) -> int:
    return above * below * size**2 + below


@pytest.mark.parametrize(
    ("resolution", "ups", "downs"),
    [
        (32, (256,) * 4, (128,) * 4),
        (64, (1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024)),
        (128, (1024, 1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024, 1024)),
    ],
)
def test_sngan_has_mimicrys_counts(resolution, ups, downs):
    """Counted from mimicry's description of its networks, less the generator's biases that a batch norm takes away."""
    dense, last = 128 * ups[0] * 16 + ups[0] * 16, 2 * ups[-1] + conv(ups[-1], 3)
    blocks = dead = 0
    for above, below in itertools.pairwise(ups):
        blocks += conv(above, below) + conv(below, below) + conv(above, below, 1) + 2 * (above + below)
        dead += 3 * below
    generator = dense + blocks + last
    assert count("Generator", "sngan", resolution, latent_dim=128) == generator - dead
    discriminator = conv(3, downs[0]) + conv(downs[0], downs[0]) + conv(3, downs[0], 1) + downs[-1] + 1
    for index, (above, below) in enumerate(itertools.pairwise(downs)):
        shortcut = above != below or (resolution == 32 and index == 0)
        discriminator += conv(above, above) + conv(above, below) + (conv(above, below, 1) if shortcut else 0)
    assert count("Discriminator", "sngan", resolution) == discriminator
    if resolution == 32:
        # As known for SNGAN on CIFAR-10 without labels.
        assert (generator, discriminator) == (4_276_739, 1_053_825)
    # With labels: a scale and an offset a class and channel in the blocks' norms, and the discriminator's table.
    norms = sum(above + below for above, below in itertools.pairwise(ups))
    assert count("Generator", "sngan", resolution, 10, latent_dim=128) == generator - dead + 2 * (10 - 1) * norms
    assert count("Discriminator", "sngan", resolution, 10) == discriminator + 10 * downs[-1]


@pytest.mark.parametrize(
    ("resolution", "width", "latent_dim", "classes", "ups", "downs", "num_down"),
    [
        (32, 64, 128, 10, (4, 4, 4, 4), (4, 4, 4, 4), 2),
        (64, 64, 120, 1000, (16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4),
        (128, 96, 120, 1000, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
    ],
)
def test_biggan_has_the_counts_of_its_channel_tables(resolution, width, latent_dim, classes, ups, downs, num_down):
    def attention(channels: int) -> int:
        return 2 * channels * (channels // 8) + 2 * channels * (channels // 2) + 1

    ups, downs = [width * share for share in ups], [width * share for share in downs]
    part = latent_dim // len(ups)
    assert part * len(ups) == latent_dim
    generator = classes * 128 + (part + 1) * ups[0] * 16 + 2 * ups[-1] + conv(ups[-1], 3)
    for above, below in itertools.pairwise(ups):
        generator += 9 * above * below + 9 * below**2 + above * below + 2 * (128 + part) * (above + below)
    # Feature maps of half the image are the last but one stage of the generator, the first block of the discriminator.
    generator += attention(ups[-2])
    assert count("Generator", "biggan", resolution, classes, latent_dim=latent_dim) == generator
    discriminator = attention(downs[0]) + downs[-1] + 1 + classes * downs[-1]
    for index, (above, below) in enumerate(zip([3, *downs], downs, strict=False)):
        shortcut = index < num_down or above != below
        discriminator += conv(above, below) + conv(below, below) + (conv(above, below, 1) if shortcut else 0)
    assert count("Discriminator", "biggan", resolution, classes) == discriminator
    if resolution == 128:
        # 158.3 million in the paper's table 1.
        assert generator + discriminator == pytest.approx(158.3e6, rel=1e-3)
    without = count("Generator", "biggan", resolution, classes, latent_dim=latent_dim, attention=False)
    assert without == generator - attention(ups[-2])


@pytest.mark.parametrize(
    ("resolution", "classes", "generator", "discriminator"),
    [(32, 10, 20.78, 21.28), (64, 0, 22.43, 22.38), (256, 0, 23.06, 23.01)],
)
def test_r3gan_has_the_counts_of_its_presets(resolution, classes, generator, discriminator):
    """CIFAR-10, FFHQ-64 and FFHQ-256, in millions."""
    found = [count(name, "r3gan", resolution, classes, latent_dim=64) for name in ("Generator", "Discriminator")]
    assert [round(number / 1e6, 2) for number in found] == [generator, discriminator]


def test_convnet_has_what_its_layers_add_up_to():
    generator = 100 * 256 + 256 * 512 + 512 * 1024 + 2 * (256 + 512 + 1024) + 1024 * 3072 + 3072
    assert count("Generator", "convnet", 32) == generator
    discriminator = conv(3, 32) + conv(32, 64) + conv(64, 128) + 2048 * 128 + 128 + 128 + 1
    assert count("Discriminator", "convnet", 32) == discriminator
