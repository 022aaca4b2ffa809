"""What every family must do: sizes, dependence on z and label, gradients to all, starts by seed, states that load."""

import pytest
import safetensors.torch
import torch
from toy_families import (
    CLASSES,
    FAMILIES,
    LATENT_DIM,
    RESOLUTIONS,
    batch,
    fill_zeros,
    toy_config,
    toy_networks,
    training_context,
)

from gan_distributed.config import ModelConfig
from gan_distributed.errors import ConfigError
from gan_distributed.models.layers import BatchNorm
from gan_distributed.models.networks import ImageSpec, build_discriminator, build_generator, empty_generator
from gan_distributed.models.spectral import SpectralLayer
from gan_distributed.training.state import encode_generator


def different(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).detach().abs().max()) > 1e-6


@pytest.mark.parametrize(
    ("family", "resolution", "conditional"),
    [
        (family, resolution, conditional)
        for family in FAMILIES
        for resolution in RESOLUTIONS[family]
        for conditional in ([False, True] if resolution < 128 else [True])
    ],
)
def test_images_and_logits_depend_on_what_they_should(family, resolution, conditional):
    channels = 1 if resolution == 32 else 3
    generator, discriminator = toy_networks(family, resolution, channels, conditional=conditional)
    fill_zeros(generator)
    z, reals, labels = batch(resolution, channels, num=3)
    images, logits = generator(z, labels), discriminator(reals, labels)
    assert images.shape == (3, channels, resolution, resolution)
    assert logits.shape == (3,)
    assert family == "r3gan" or images.detach().abs().max() <= 1
    assert different(images[0], images[1])
    assert different(generator(z.flip(0), labels), images)
    assert different(discriminator(reals.flip(0), labels), logits)
    others = (labels + 1) % CLASSES
    assert different(generator(z, others), images) == conditional
    assert different(discriminator(reals, others), logits) == conditional


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient(family, conditional):
    """A parameter without one is dead weight: a bias before a normalisation, a layer that nothing reads."""
    z, images, labels = batch(32, num=12, dtype=torch.float64)
    for network, inputs in zip(toy_networks(family, conditional=conditional), (z, images), strict=True):
        fill_zeros(network.double())
        out = network(inputs, labels, training_context(12))
        weights = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).reshape(out.shape).sin()
        names, parameters = zip(*network.named_parameters(), strict=True)
        gradients = torch.autograd.grad((weights * out).sum(), parameters)
        sizes = {name: float(gradient.abs().max()) for name, gradient in zip(names, gradients, strict=True)}
        assert {name: size for name, size in sizes.items() if size < 1e-9} == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_penalties_have_the_right_derivative(family):
    """Of the squared gradient norm at images, along a direction of the weights, against central differences."""
    _, discriminator = toy_networks(family)
    fill_zeros(discriminator.double())
    _, images, labels = batch(32, num=3, dtype=torch.float64)
    images.requires_grad_()
    parameters = list(discriminator.parameters())
    source = torch.Generator().manual_seed(3)
    direction = [torch.randn(one.shape, generator=source, dtype=torch.float64) for one in parameters]

    def penalty() -> torch.Tensor:
        logits = discriminator(images, labels, training_context(3))
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum()

    def moved(by: float) -> float:
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=by)
        value = float(penalty().detach())
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=-by)
        return value

    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum(float((a * b).sum()) for a, b in zip(gradients, direction, strict=True) if a is not None)
    step = 1e-7
    assert slope == pytest.approx((moved(step) - moved(-step)) / (2 * step), rel=1e-4)
    assert slope != 0


@pytest.mark.parametrize("family", FAMILIES)
def test_start_follows_the_seed_and_draws_nowhere_else(family):
    before = torch.get_rng_state()
    ones, sames, others = (toy_networks(family, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    for one, same, other in zip(ones, sames, others, strict=True):
        assert one.state_dict().keys() == other.state_dict().keys()
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, same.state_dict()[name]), name
            assert bool(tensor.isfinite().all())
            drawn = bool(tensor.any()) and not bool((tensor.abs() == 1).all())
            assert torch.equal(tensor, other.state_dict()[name]) != drawn or tensor.numel() == 1, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_generator_gives_the_same_images(family):
    config, spec = toy_config(family), ImageSpec(32, 3, CLASSES)
    generator = fill_zeros(build_generator(config, spec, 0)).to(memory_format=torch.channels_last)
    data = encode_generator(generator.state_dict(), {})
    # Another layout in memory would round otherwise.
    restored = empty_generator(config, spec).to(memory_format=torch.channels_last)
    restored.load_state_dict(safetensors.torch.load(data))
    z, _, labels = batch(32)
    torch.testing.assert_close(restored(z, labels), generator(z, labels), rtol=1e-5, atol=1e-6)
    restored.to(memory_format=torch.channels_last)
    assert torch.equal(restored(z, labels), generator(z, labels))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_stands_alone_where_the_family_says_so(family):
    _, discriminator = toy_networks(family)
    discriminator.double()
    _, images, labels = batch(32, num=6, dtype=torch.float64)
    together = discriminator(images, labels, training_context(6))[:2]
    alone = discriminator(images[:2], labels[:2], training_context(2))
    assert discriminator.mixes_samples == (family == "dcgan")
    assert torch.allclose(together, alone, rtol=1e-10) != discriminator.mixes_samples


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_memory_layout_and_bf16_change_only_rounding(family):
    z, images, labels = batch(32)
    for network, inputs in zip(toy_networks(family), (z, images), strict=True):
        wanted = fill_zeros(network)(inputs, labels)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(inputs, labels).float()
        assert float((rounded - wanted).norm() / wanted.norm()) < 0.03
        last = network.to(memory_format=torch.channels_last)(inputs, labels)
        torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rank_may_have_no_sample(family):
    """Its part of the gradient is zero; in batch norms it still takes part in the sums."""
    context = training_context(0)
    z, images, labels = batch(32, num=0)
    for network, inputs in zip(toy_networks(family), (z, images), strict=True):
        out = network(inputs, labels, type(context)(context.draws, lambda values: values, None, True, True))
        assert len(out) == 0
        for gradient in torch.autograd.grad(out.sum(), list(network.parameters()), allow_unused=True):
            assert gradient is None or not bool(gradient.any())


def test_norms_stand_where_the_papers_have_them():
    for family in FAMILIES:
        generator, discriminator = toy_networks(family)
        kinds = [
            {kind for kind in (BatchNorm, SpectralLayer) for layer in network.modules() if isinstance(layer, kind)}
            for network in (generator, discriminator)
        ]
        assert (
            kinds
            == {
                "dcgan": [{BatchNorm}, {BatchNorm}],
                "convnet": [{BatchNorm}, set()],
                "sngan": [{BatchNorm}, {SpectralLayer}],
                "biggan": [{BatchNorm, SpectralLayer}, {SpectralLayer}],
                "r3gan": [set(), set()],
            }[family]
        ), family


def test_what_a_family_cannot_make_is_refused_in_a_line():
    for family, resolutions in RESOLUTIONS.items():
        for build in (build_generator, build_discriminator):
            with pytest.raises(ConfigError) as caught:
                build(toy_config(family), ImageSpec(48, 3, CLASSES), 0)
            told = str(caught.value)
            assert f"{family} makes {', '.join(map(str, resolutions))} px images, the data set has 48; " in told
            assert "\n" not in told
    with pytest.raises(ConfigError, match="--resolution, or take biggan or r3gan"):
        build_generator(toy_config("dcgan"), ImageSpec(256, 3, CLASSES), 0)
    with pytest.raises(ConfigError, match="latent_dim 3: biggan at 32 px cuts z into 4 parts"):
        build_generator(ModelConfig(family="biggan", latent_dim=3), ImageSpec(32, 3, 0), 0)


def test_r3gan_blocks_start_as_the_identity():
    generator, _ = toy_networks("r3gan", conditional=False)
    x = torch.linspace(-1, 1, 8 * 16).reshape(1, 8, 4, 4)
    for stage in generator.stages:
        assert torch.equal(stage(x), x)


def test_biggan_reads_its_parts_of_z_at_every_size():
    generator, _ = toy_networks("biggan", conditional=False)
    z, _, labels = batch(32, num=1)
    images = generator(z, labels)
    for element in range(LATENT_DIM):
        other = z.clone()
        other[0, element] += 1
        assert different(generator(other, labels), images), element
