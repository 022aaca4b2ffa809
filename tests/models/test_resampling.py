"""Doubling and halving of feature maps against torch's own, by the ways of CPUs and of GPUs; r3gan's layout by both."""

import pytest
import torch
from test_blocks import ONE, numbers
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from gan_distributed.config import ModelConfig
from gan_distributed.models import grouped, resampling, resampling_cpu, resampling_gpu
from gan_distributed.models.r3gan import Discriminator, Generator
from gan_distributed.models.resampling import (
    downsample_binomial,
    downsample_mean,
    upsample_binomial,
    upsample_nearest,
)


@pytest.fixture(params=[resampling_cpu, resampling_gpu])
def resampling_ways(request, monkeypatch):
    """The functions of either device, on this one."""
    monkeypatch.setattr(resampling, "ways_on", lambda _: request.param)


def test_what_was_traced_is_not_taken_for_numbers(monkeypatch):
    monkeypatch.setattr(resampling_gpu, "_matrices", {})
    x = numbers(1, 3, 4, 4)
    for way in (resampling_gpu.interpolated, resampling_gpu.gathered):
        traced = make_fx(way, tracing_mode="fake", _allow_non_fake_inputs=True)(x)
        assert torch.equal(way(x), traced(x))


@pytest.mark.usefixtures("resampling_ways")
# The second is taken at once, the others an axis at a time.
@pytest.mark.parametrize("size", [(8, 6), (8, 8), (36, 36)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_binomial_resampling_is_a_convolution_with_its_filter(layout, size):
    x = numbers(2, 3, *size).contiguous(memory_format=layout)
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    wanted = functional.conv_transpose2d(x, kernel / 4, stride=2, padding=1, output_padding=1, groups=3)
    torch.testing.assert_close(upsample_binomial(x), wanted, rtol=1e-12, atol=1e-12)
    wanted = functional.conv2d(x, kernel / 16, stride=2, padding=1, groups=3)
    torch.testing.assert_close(downsample_binomial(x), wanted, rtol=1e-12, atol=1e-12)
    for way in (upsample_binomial, downsample_binomial):
        assert way(x).is_contiguous(memory_format=layout)
        assert way(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.usefixtures("resampling_ways")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_are_repeated_and_added_up_as_torch_does_it(layout):
    x = numbers(2, 3, 4, 6).contiguous(memory_format=layout)
    assert torch.equal(upsample_nearest(x), functional.interpolate(x, scale_factor=2.0))
    torch.testing.assert_close(downsample_mean(x), functional.avg_pool2d(x, 2), rtol=1e-15, atol=1e-15)
    for way in (upsample_nearest, downsample_mean):
        assert way(x).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("channels", [3, 4, 10, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpus_repeat_and_add_up_pixels_of_any_number_of_channels(dtype, channels):
    """Packed or not; sums of small whole numbers are right to the bit."""
    memory = numbers(1 + 2 * 4 * 6 * channels).mul(3).round().to(dtype)
    for start in (0, 1):
        x = memory[start : start + 2 * 4 * 6 * channels].view(2, 4, 6, channels).permute(0, 3, 1, 2)
        assert torch.equal(resampling_gpu.repeated(x), functional.interpolate(x, scale_factor=2.0))
        assert torch.equal(resampling_gpu.summed(x), functional.avg_pool2d(x.float(), 2, divisor_override=1).to(dtype))


@pytest.mark.usefixtures("resampling_ways")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_leaves_the_precision_of_resampling_alone(dtype):
    x = numbers(2, 3, 4, 4).to(dtype)
    for way in RESAMPLING:
        with torch.autocast("cpu", torch.bfloat16):
            assert way(x).dtype == dtype


RESAMPLING = [
    upsample_nearest,
    downsample_mean,
    upsample_binomial,
    downsample_binomial,
]


@pytest.mark.usefixtures("resampling_ways")
@pytest.mark.parametrize("resample", RESAMPLING)
def test_resampling_is_twice_differentiable_and_keeps_flat_pictures(resample):
    x = numbers(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(resample, x)
    assert torch.autograd.gradgradcheck(resample, x)
    flat = resample(torch.ones(1, 1, 8, 8))
    # At the border zeros come in.
    assert torch.equal(flat[:, :, 1:-1, 1:-1], torch.ones_like(flat[:, :, 1:-1, 1:-1]))


@pytest.mark.usefixtures("resampling_ways")
@pytest.mark.parametrize("is_in_groups", [False, True])
def test_r3gan_has_its_channels_last_from_end_to_end_and_back(is_in_groups, monkeypatch):
    """Else each of its products lays activations out anew, and the filters of GPUs take a pixel at a time."""
    if is_in_groups:
        monkeypatch.setattr(grouped, "suits", grouped.is_possible)
    config = ModelConfig(family="r3gan", latent_dim=8, generator_channels=16, discriminator_channels=16)
    generator, discriminator = Generator(config, 16, 3, 0), Discriminator(config, 16, 3, 0)
    images = generator(numbers(2, 8).float(), ONE).requires_grad_()
    met = []

    def note(tensor: torch.Tensor | None) -> None:
        if tensor is not None:
            met.append(tensor.is_contiguous(memory_format=torch.channels_last))

    def look(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        for tensor in (*inputs, output):
            note(tensor)
            tensor.register_hook(note)

    for stage in (*generator.stages, *discriminator.stages):
        stage.register_forward_hook(look)
    logits = discriminator(generator(numbers(2, 8).float(), ONE), ONE)
    (at_images,) = torch.autograd.grad(discriminator(images, ONE).sum(), images, create_graph=True)
    (logits.sum() + at_images.square().sum()).backward()
    # What comes into each of three stages and goes out: of two forward passes at least, and of their gradients.
    assert len(met) >= 2 * 2 * 3 * 2
    assert all(met)


def test_only_the_stage_of_4_px_of_r3gan_is_wider_than_autocast():
    config = ModelConfig(family="r3gan", latent_dim=8, generator_channels=16, discriminator_channels=16)
    generator, discriminator = Generator(config, 16, 3, 0), Discriminator(config, 16, 3, 0)
    met = []
    for stage in (*generator.stages, *discriminator.stages):
        stage.register_forward_hook(lambda module, inputs, output: met.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        discriminator(generator(numbers(2, 8).float(), ONE), ONE)
    wide, lower = (torch.float32,) * 2, (torch.bfloat16,) * 2
    assert met == [wide, lower, lower, lower, lower, wide]
