"""Spectral norm against torch's own and against singular values; passes leave the vectors alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_distributed.models.initialization import normal
from gan_distributed.models.spectral import SpectralConv2d, SpectralEmbedding, SpectralLayer, SpectralLinear
from gan_distributed.randomness import Draws
from gan_distributed.training.masked import assign_where
from gan_distributed.training.power_iteration import PowerIteration

OK = torch.tensor(data=True)
X = torch.linspace(-1, 1, 2 * 5 * 16, dtype=torch.float64).reshape(2, 5, 4, 4).sin()


def layer_of(kind: str) -> tuple[SpectralLayer, nn.Module, torch.Tensor]:
    """One of ours, torch's plain layer beside it, and an input."""
    layer, plain, x = {
        "conv": (SpectralConv2d(5, 7, 3), nn.Conv2d(5, 7, 3, padding=1), X),
        "linear": (SpectralLinear(5, 7), nn.Linear(5, 7), X[:, :, 0, 0]),
        "embedding": (SpectralEmbedding(7, 5), nn.Embedding(7, 5), torch.tensor([3, 6])),
    }[kind]
    layer, plain = layer.double(), plain.double()
    with torch.no_grad():
        layer.weight.copy_(normal(layer.weight, 1.0, Draws(4, torch.zeros(1, dtype=torch.int64))))
        plain.load_state_dict({name: value for name, value in layer.state_dict().items() if name in ("weight", "bias")})
    layer.start_vectors(Draws(5, torch.zeros(1, dtype=torch.int64)))
    return layer, plain, x


@pytest.mark.parametrize("kind", ["conv", "linear", "embedding"])
def test_the_largest_singular_value_becomes_one(kind):
    layer, plain, x = layer_of(kind)
    for _ in range(500):
        PowerIteration(layer).advance(OK)
    normalized = layer.normalized_weight().detach()
    assert float(torch.linalg.svdvals(normalized.flatten(1))[0]) == pytest.approx(1, abs=1e-9)
    with torch.no_grad():
        plain.weight.copy_(normalized)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["conv", "linear", "embedding"])
def test_output_and_derivatives_equal_torchs(kind):
    layer, plain, x = layer_of(kind)
    theirs = spectral_norm(plain).eval()
    with torch.no_grad():
        theirs.parametrizations.weight[0]._u.copy_(layer.left)
        theirs.parametrizations.weight[0]._v.copy_(layer.right)
    found = []
    for one, weight in ((layer, layer.weight), (theirs, theirs.parametrizations.weight.original)):
        y = one(x)
        (gradient,) = torch.autograd.grad(y.cos().sum(), weight, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), weight)
        found.append((y.detach(), gradient.detach(), second))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12)


def test_one_iteration_is_torchs_one_iteration():
    layer, _, _ = layer_of("linear")
    layer.left.copy_(nn.functional.normalize(torch.linspace(-1, 2, 7, dtype=torch.float64), dim=0))
    # Torch begins with the other side, so it gets the transposed matrix.
    plain = nn.Linear(7, 5, bias=False, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(layer.weight.T)
    theirs = spectral_norm(plain)
    theirs.parametrizations.weight[0]._u.copy_(layer.right)
    theirs.parametrizations.weight[0]._v.copy_(layer.left)
    # In training mode torch's layer takes an iteration when its weight is read.
    wanted = theirs.weight.T
    assert not torch.allclose(layer.normalized_weight(), wanted, rtol=1e-9)
    PowerIteration(layer).advance(OK)
    torch.testing.assert_close(layer.normalized_weight(), wanted, rtol=1e-10, atol=1e-12)


def test_vectors_move_only_when_told():
    layer, _, x = layer_of("conv")
    before = copy.deepcopy(layer.state_dict())
    layer.train()(x).sum().backward()
    PowerIteration(layer).advance(~OK)
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())
    PowerIteration(layer).advance(OK)
    assert not torch.equal(before["left"], layer.left)
    assert not torch.equal(before["right"], layer.right)


def test_weights_are_normalized_in_their_own_precision_under_autocast():
    layer = layer_of("conv")[0].float()
    wanted = layer.normalized_weight()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.normalized_weight(), wanted)
        assert layer(X.float()).dtype == torch.bfloat16


def test_assignment_where_told_keeps_every_byte_otherwise():
    old, new = torch.tensor([-0.0, 1.0, float("nan")]), torch.tensor([0.0, float("inf"), 2.0])
    kept = old.clone()
    assign_where(~OK, [kept], [new])
    assert torch.equal(kept.view(torch.int32), old.view(torch.int32))
    assign_where(OK, [kept], [new])
    assert torch.equal(kept.view(torch.int32), new.view(torch.int32))
