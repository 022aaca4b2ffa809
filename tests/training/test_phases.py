"""What the phases leave out: gradients that nobody asks for."""

import torch
from test_step import batch_of, started
from test_worker_count import config_for
from torch.utils._python_dispatch import TorchDispatchMode


class ConvolutionBackwards(TorchDispatchMode):
    """Notes of each backward pass of a convolution whether it is transposed, and which gradients it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, list[bool]]] = []

    def __torch_dispatch__(self, function, _types, arguments=(), options=None):
        if function is torch.ops.aten.convolution_backward.default:
            self.seen.append((arguments[7], arguments[10]))
        return function(*arguments, **(options or {}))


def test_a_phase_computes_no_weight_gradient_of_the_other_network():
    """Of dcgan, the generator's convolutions are the transposed ones."""
    _, step = started(config_for("bce", 0.5))
    parts = step._partition([batch_of(0)], 0)
    for player, others in ((step._discriminator, True), (step._generator, False)):
        with ConvolutionBackwards() as noted:
            step._gradients_of(player, parts[0][0])
        own = [wanted for transposed, wanted in noted.seen if transposed != others]
        assert any(wanted[1] for wanted in own)
        assert not any(wanted[1] or wanted[2] for transposed, wanted in noted.seen if transposed == others)
