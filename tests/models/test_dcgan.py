"""DCGAN's shapes, counts and starts."""

import pytest
import torch

from gan_distributed.config import ModelConfig
from gan_distributed.errors import ConfigError
from gan_distributed.models.networks import (
    ImageSpec,
    build_discriminator,
    build_generator,
    images_from_rows,
    rows_from_images,
)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_64_px_has_the_papers_layers():
    """Counted by hand from the paper's figure 1 (z 100, 1024-512-256-128-3), less the first layer's bias."""
    config = ModelConfig(generator_channels=128, discriminator_channels=128)
    generator = build_generator(config, ImageSpec(64, 3, 0), 0)
    convs = 16 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    assert count(generator) == 100 * 1024 * 16 + convs + 2 * (1024 + 512 + 256 + 128) + 3
    discriminator = build_discriminator(config, ImageSpec(64, 3, 0), 0)
    convs = 16 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    assert count(discriminator) == convs + 128 + 2 * (256 + 512 + 1024) + 16 * 1024 + 1


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("conditional", [False, True])
def test_shapes_and_dependence(resolution, channels, conditional):
    config = ModelConfig(generator_channels=4, discriminator_channels=4, conditional=conditional)
    spec = ImageSpec(resolution, channels, 3)
    generator, discriminator = build_generator(config, spec, 0), build_discriminator(config, spec, 0)
    z = torch.linspace(-2, 2, 200).reshape(2, 100)
    images = generator(z, torch.tensor([0, 1]))
    assert images.shape == (2, channels, resolution, resolution)
    assert images.abs().max() <= 1
    assert not torch.equal(images[0], images[1])
    logits = discriminator(images, torch.tensor([0, 1]))
    assert logits.shape == (2,)
    other = torch.tensor([2, 2])
    assert torch.equal(generator(z, other), images) != conditional
    assert torch.equal(discriminator(images, other), logits) != conditional


def test_no_bias_stands_before_a_normalisation():
    for batch_norm in (True, False):
        config = ModelConfig(discriminator_batch_norm=batch_norm)
        discriminator = build_discriminator(config, ImageSpec(64, 3, 0), 0)
        assert [conv.bias is None for conv in discriminator.convs] == [batch_norm] * 3
        assert discriminator.mixes_samples == batch_norm
    generator = build_generator(ModelConfig(), ImageSpec(64, 3, 0), 0)
    assert generator.project.bias is None
    assert all(conv.bias is None for conv in generator.convs)


def test_start_follows_the_paper_and_the_seed():
    spec = ImageSpec(32, 1, 0)
    one, same, other = (build_generator(ModelConfig(), spec, seed) for seed in (0, 0, 1))
    weight = one.convs[0].weight.detach()
    assert torch.equal(weight, same.convs[0].weight)
    assert not torch.equal(weight, other.convs[0].weight)
    assert abs(float(weight.std()) - 0.02) < 0.001
    assert abs(float(one.norms[0].weight.detach().mean()) - 1) < 0.01
    before = torch.get_rng_state()
    build_discriminator(ModelConfig(), spec, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_unfit_data_sets_are_refused_with_the_mend():
    with pytest.raises(ConfigError, match=r"32, 64, 128 px images, the data set has 48; .*--resolution"):
        build_generator(ModelConfig(), ImageSpec(48, 3, 0), 0)
    with pytest.raises(ConfigError, match=r"no labels; .*model.conditional=false"):
        build_generator(ModelConfig(conditional=True), ImageSpec(32, 3, 0), 0)


def test_rows_and_images_are_inverse():
    rows = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(2, 1, 1, 3)
    images = images_from_rows(rows, torch.float32)
    assert images.shape == (2, 3, 16, 16)
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(rows_from_images(images), rows)
