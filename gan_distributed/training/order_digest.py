"""The order's digest: which rows arrived at which positions, as one number that any two runs can compare."""

import torch
from torch import Tensor

from gan_distributed.randomness import Draws, key_of, mix_tensor
from gan_distributed.training.state import TrainState


class OrderDigest:
    """Adds rows to a state's `order_digest`, which is a sum modulo 2^64 and so knows no ranks and no batches."""

    def __init__(self, state: TrainState) -> None:
        self._state = state
        self._row_weights: Tensor | None = None

    def add(self, rows: Tensor, positions: Tensor) -> None:
        """Add hash(position, the row's bytes) of each row that arrived; rows: uint8 [n, H, W, C]."""
        if not len(rows):
            return
        words = rows.flatten(1).view(torch.int64)
        if self._row_weights is None:
            place = torch.zeros(1, dtype=torch.int64, device=words.device)
            # Odd weights: a change of any one word changes the row's hash.
            self._row_weights = Draws(key_of("row hash"), place).bits(words.shape[1])[0] | 1
        row_hashes = mix_tensor((words * self._row_weights).sum(1))
        self._state.order_digest += mix_tensor(row_hashes ^ mix_tensor(positions)).sum()
