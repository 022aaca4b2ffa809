"""What the configuration says of each family is so."""

import pytest

from gan_distributed.config import ModelConfig
from gan_distributed.models.layers import BatchNorm
from gan_distributed.models.networks import _FAMILIES, ImageSpec, build_discriminator, build_generator


@pytest.mark.parametrize(
    ("family", "batch_norm"), [("dcgan", True), ("dcgan", False), *((family, None) for family in _FAMILIES)]
)
def test_the_configuration_knows_where_samples_meet(family, batch_norm):
    config = ModelConfig(family=family, discriminator_batch_norm=batch_norm)
    images = ImageSpec(32, 3, 0)
    generator, discriminator = build_generator(config, images, 0), build_discriminator(config, images, 0)
    assert discriminator.mixes_samples == config.discriminator_mixes_samples
    layers = [*generator.modules(), *discriminator.modules()]
    assert any(isinstance(layer, BatchNorm) for layer in layers) == config.has_batch_norm
