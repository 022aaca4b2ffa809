"""Our convolution against PyTorch's: values, first and second derivatives, precision, and what is left out."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gan_distributed.models import grouped
from gan_distributed.models.convolution import Conv2d, constant_weights, only_image_gradients

GEOMETRIES = {
    "plain": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 4, "stride": 2, "padding": 1},
    "no padding, no bias": {"kernel_size": 3, "bias": False},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "a channel a group": {"kernel_size": 5, "groups": 4, "bias": False},
}


@pytest.fixture(params=["groups as a library takes them", "groups as products"])
def groups_way(request, monkeypatch):
    if request.param == "groups as products":
        monkeypatch.setattr(grouped, "suits", grouped.is_possible)


def layer_and_input(geometry: dict, dtype: torch.dtype = torch.float64) -> tuple[Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    return Conv2d(4, 4, **geometry).to(dtype), torch.randn(2, 4, 5, 6, dtype=dtype, requires_grad=True)


def penalized(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of a loss with a penalty on the gradient at x; the second layer's are of what the first gives."""
    y = functional.softplus(layer(x))
    (at_x,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    loss = y.sum() + 3 * at_x.square().sum()
    return list(torch.autograd.grad(loss, [x, *layer.parameters()]))


@pytest.mark.usefixtures("groups_way")
@pytest.mark.parametrize("name", GEOMETRIES)
def test_derivatives_are_those_of_finite_differences(name):
    layer, x = layer_and_input(GEOMETRIES[name])
    inputs = [x, *layer.parameters()]

    def forward(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(dict(layer.named_parameters()), parameters, strict=True)), x)

    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradgradcheck(forward, inputs)


@pytest.mark.usefixtures("groups_way")
@pytest.mark.parametrize("name", GEOMETRIES)
def test_penalties_are_those_of_pytorch(name):
    layer, x = layer_and_input(GEOMETRIES[name])
    theirs = nn.Conv2d(4, 4, **GEOMETRIES[name]).double()
    theirs.load_state_dict(layer.state_dict())
    for ours, other in zip(penalized(layer, x), penalized(theirs, x), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)


def test_autocast_lowers_values_and_keeps_gradients_of_the_weights_precision():
    layer, x = layer_and_input(GEOMETRIES["groups"], torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        same = functional.conv2d(x, layer.weight, layer.bias, padding=1, groups=2)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, same)
    y.float().square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_weight_gradients_are_left_out_within_and_there_again_afterwards():
    layer, x = layer_and_input(GEOMETRIES["plain"])
    loss = layer(x).square().sum()
    with only_image_gradients():
        loss.backward(retain_graph=True)
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    loss.backward()
    assert layer.weight.grad.abs().sum() > 0


def test_without_gradients_nothing_is_kept():
    layer, x = layer_and_input(GEOMETRIES["plain"])
    with torch.no_grad():
        assert layer(x).grad_fn is None


def test_constant_weights_pass_gradients_on_and_take_none():
    layer, x = layer_and_input(GEOMETRIES["strided"])
    wanted = torch.autograd.grad(layer(x).square().sum(), x)
    with constant_weights():
        y = layer(x)
    assert y.grad_fn.needs_input_grad[:3] == (True, False, False)
    assert torch.equal(*wanted, *torch.autograd.grad(y.square().sum(), x))
    assert layer(x).grad_fn.needs_input_grad[:3] == (True, True, True)
