"""The check before the first step: it passes what is right, refuses what is not, and leaves no trace."""

import pytest
import torch
from test_families_in_training import config_of, started
from test_step import same_bytes
from test_worker_count import config_for, tensors_of
from toy_families import FAMILIES

from gan_distributed.errors import TrainingError
from gan_distributed.models import convolution
from gan_distributed.training import self_check
from gan_distributed.training.self_check import check_gradients

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_far_below_the_tolerance_and_unchanged(family, precision, monkeypatch):
    monkeypatch.setitem(self_check._TOLERANCES, precision, self_check._TOLERANCES[precision] / 5)
    config = config_of(family, training__precision=precision)
    state, _ = started(config)
    before = tensors_of(state)
    check_gradients(config, state, CPU)
    after = tensors_of(state)
    assert [name for name in before if not same_bytes(before[name], after[name])] == []
    assert not any(getattr(module, "observed", None) for module in state.discriminator.modules())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_wrong_derivative_is_refused(precision, monkeypatch):
    config = config_for("bce", 1.0, **{"training.precision": precision})
    state, _ = started(config)
    right = convolution._gradients

    def wrong(*arguments):
        at_x, *others = right(*arguments)
        return None if at_x is None else 1.5 * at_x, *others

    monkeypatch.setattr(convolution, "_gradients", wrong)
    with pytest.raises(TrainingError, match=rf"away from autograd's own on cpu in {precision}"):
        check_gradients(config, state, CPU)


def test_a_penalty_without_a_trace_is_refused(monkeypatch):
    config = config_for("hinge", 1.0)
    state, _ = started(config)
    squared_norm = lambda gradient: gradient.detach().square().sum((1, 2, 3))  # noqa: E731
    monkeypatch.setattr("gan_distributed.training.phases.squared_norm", squared_norm)
    with pytest.raises(TrainingError, match=r"penalties of the section loss leave no trace"):
        check_gradients(config, state, CPU)


def test_a_penalty_that_is_not_finite_is_refused(monkeypatch):
    config = config_for("hinge", 0.0, **{"loss.r2_gamma": {"start": 0.0, "end": 1.0, "kimg": 1}, "loss.r2_every": 16})
    state, _ = started(config)
    monkeypatch.setattr("gan_distributed.training.phases.squared_norm", lambda gradient: gradient.sqrt().sum((1, 2, 3)))
    with pytest.raises(TrainingError, match=r"gradients of the penalties are not finite"):
        check_gradients(config, state, CPU)


def test_spoiled_weights_are_left_to_the_steps():
    config = config_for("bce", 1.0)
    state, _ = started(config)
    with torch.no_grad():
        next(state.discriminator.parameters()).fill_(float("nan"))
    check_gradients(config, state, CPU)
