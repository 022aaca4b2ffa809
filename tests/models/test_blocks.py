"""Blocks against torch's own, and first weights against their distributions."""

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional
from toy_families import training_context

from gan_distributed.models.attention import SelfAttention
from gan_distributed.models.initialization import (
    fan_in_normal,
    orthogonal,
    start_network,
    start_vectors,
    xavier_uniform,
)
from gan_distributed.models.layers import BatchContext, BatchNorm, ConditionalBatchNorm, Groups
from gan_distributed.models.r3gan import Pointwise
from gan_distributed.models.resampling import upsample_nearest
from gan_distributed.models.residual import DownBlock, UpBlock, plain_convolution
from gan_distributed.randomness import Draws

ONE = torch.zeros(1, dtype=torch.int64)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_is_a_convolution(bias):
    layer = Pointwise(3, 5, bias=bias).double()
    for x in (
        numbers(2, 3, 4, 4),
        numbers(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        numbers(0, 3, 4, 4),
    ):
        torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight, layer.bias))
    assert layer(numbers(2, 3, 4, 4)).is_contiguous(memory_format=torch.channels_last)


def test_conditional_batch_norm_is_batch_norm_with_a_scale_and_an_offset_a_class():
    layer = ConditionalBatchNorm(3, nn.Embedding(4, 3), nn.Embedding(4, 3)).double()
    x, labels = numbers(8, 3, 4, 4), torch.arange(8) % 4
    y = layer(x, training_context(8), labels)
    wanted = functional.batch_norm(x, None, None, training=True)
    for index, label in enumerate(labels.tolist()):
        scale, offset = 1 + layer.gain.weight[label], layer.offset.weight[label]
        torch.testing.assert_close(y[index], wanted[index] * scale[:, None, None] + offset[:, None, None])


def test_conditional_batch_norm_keeps_groups_apart_and_observes_them():
    layer = ConditionalBatchNorm(3, nn.Embedding(4, 3), nn.Embedding(4, 3)).double()
    x, positions = numbers(8, 3, 4, 4), torch.arange(8)
    groups = Groups(positions % 2, 2, torch.float64)
    context = BatchContext(Draws(1, positions), lambda values: values, groups, shared=True, observe=True)
    y = layer(x, context, positions % 4)
    ((mean, _),) = layer.norm.observed
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    for group in (0, 1):
        alone = layer(x[group::2], training_context(4), positions[group::2] % 4)
        torch.testing.assert_close(y[group::2], alone, rtol=1e-10, atol=1e-12)


def test_a_single_number_a_channel_is_normalized_to_the_bias():
    layer = BatchNorm(3).double()
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(layer(numbers(1, 3, 1, 1), training_context(1)).flatten(), layer.bias)


def test_an_up_blocks_shortcut_before_the_repetition_changes_nothing():
    block = UpBlock(3, 5, BatchNorm, plain_convolution).double()
    x = numbers(2, 3, 4, 4)
    nn.init.zeros_(block.conv2.weight)
    torch.testing.assert_close(block(x, training_context(2)), block.shortcut(upsample_nearest(x)))


def test_a_down_blocks_biases_and_means_may_change_places():
    """As it is told: both convolutions with their biases, then means; the shortcut at the full size."""
    block = DownBlock(3, 4, 5, down=True).double()
    for index, parameter in enumerate(block.parameters()):
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(index))
    start_vectors(block, 0, "block")
    x = numbers(2, 3, 6, 6)
    y = block.conv2(functional.relu(block.conv1(functional.relu(x))))
    wanted = functional.avg_pool2d(y + block.shortcut(x), 2)
    torch.testing.assert_close(block(x), wanted, rtol=1e-12, atol=1e-12)


def started_attention(channels: int) -> SelfAttention:
    attention = SelfAttention(channels).double()
    start_network(
        attention,
        0,
        "attention",
        lambda owner, path, parameter, draws: draws.normal(parameter.numel())[0].reshape(parameter.shape),
    )
    return attention


def test_attention_equals_torchs_and_is_twice_differentiable():
    attention, x = started_attention(8), numbers(2, 8, 4, 4)
    query = attention.query(x).flatten(2).mT
    key, value = (functional.max_pool2d(conv(x), 2).flatten(2).mT for conv in (attention.key, attention.value))
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=1.0).mT.reshape(2, 4, 4, 4)
    torch.testing.assert_close(attention(x), x + attention.strength * attention.out(mixed))
    x = x[:1, :, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(attention, x)
    assert torch.autograd.gradgradcheck(attention, x)


def test_attention_starts_as_the_identity_and_sees_every_pixel():
    attention, x = started_attention(8), numbers(1, 8, 4, 4)
    moved = x.clone()
    moved[0, :, 3, 3] += 5
    assert not torch.allclose(attention(moved)[0, :, 0, 0], attention(x)[0, :, 0, 0])
    with torch.no_grad():
        attention.strength.zero_()
    assert torch.equal(attention(x), x)


@torch.no_grad()
def test_attention_shares_are_not_rounded_to_bf16():
    """From queries and keys that are bf16 anyway, shares are exact; rounded scores would be off by twice the bound."""
    attention, x = started_attention(16).float(), 3 * numbers(4, 16, 8, 8).float()
    # Twice the weight over the same singular value.
    attention.query.weight *= 2
    attention.query.left /= 2
    with torch.autocast("cpu", torch.bfloat16):
        query, key, value = (one(x) for one in (attention.query, attention.key, attention.value))
        found = attention(x) - x
    key, value = (functional.max_pool2d(one, 2).flatten(2).double() for one in (key, value))
    scores = query.flatten(2).double().mT @ key
    assert scores.abs().max() > 16
    wanted = attention.strength * attention.out((value @ scores.softmax(2).mT).reshape(4, 8, 8, 8).float())
    assert float((found - wanted).norm() / wanted.norm()) < 0.0045


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (10, 4), (5, 3, 3, 3), (40, 2, 3, 3)])
def test_orthogonal_starts_have_orthonormal_rows_or_columns(shape):
    start = orthogonal(torch.empty(shape), Draws(1, ONE)).flatten(1)
    rows, columns = start.shape
    product = start @ start.T if rows <= columns else start.T @ start
    torch.testing.assert_close(product, torch.eye(min(rows, columns), dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(start, orthogonal(torch.empty(shape), Draws(1, ONE)).flatten(1))
    assert not torch.equal(start, orthogonal(torch.empty(shape), Draws(2, ONE)).flatten(1))


def test_orthogonal_starts_are_uniform():
    """An element of a uniform orthogonal matrix is symmetric about 0: QR alone would fix signs of the diagonal."""
    first = torch.stack([orthogonal(torch.empty(4, 4), Draws(seed, ONE)) for seed in range(600)])
    for row in range(4):
        # The square of an element of a uniform unit vector in 4 dimensions is Beta(1/2, 3/2).
        assert stats.kstest(first[:, row, row].square().numpy(), stats.beta(0.5, 1.5).cdf).pvalue > 1e-3
        assert abs(float(first[:, row, row].mean())) < 4 * 0.5 / 600**0.5


def test_starts_have_their_variance():
    shape = (60, 20, 3, 3)
    start = fan_in_normal(torch.empty(shape), 2.0, Draws(1, ONE)).flatten()
    assert float(start.std()) == pytest.approx(2 / 180**0.5, rel=0.03)
    assert stats.kstest(start.numpy(), stats.norm(scale=2 / 180**0.5).cdf).pvalue > 1e-3
    start = xavier_uniform(torch.empty(shape), 2.0, Draws(1, ONE)).flatten()
    assert float(start.std()) == pytest.approx(2 * (2 / 720) ** 0.5, rel=0.03)
    assert float(start.abs().max()) == pytest.approx(2 * (6 / 720) ** 0.5, rel=0.01)
