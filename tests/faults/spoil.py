"""Bad numbers in training as a pure function of position, whichever rank holds the image; a step that always fails.

`environment()` brings them into every worker of a Ray that is started with it; elsewhere call `install`.
"""

from pathlib import Path
from typing import Any

import torch

# One image in so many spoils the step that it is in.
_EVERY = 331


# Where `install_failure` lets every attempt fail.
FAILS_AT_IMAGES = 480


def environment(hook: str = "install") -> dict[str, str]:
    """For Ray's workers: a hook of Ray's own, and the path to this module."""
    here = Path(__file__).parent
    return {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": f"spoil.{hook}", "PYTHONPATH": f"{here}:{here.parent}"}


def install_failure() -> None:
    """Let every rank of this process fail at the same step, each time it comes there."""
    from gan_distributed.training.step import Step

    sound = Step.__call__
    if sound.__name__ == "failing":
        return

    def failing(self: Step, *arguments: Any, **options: Any) -> Any:
        if self._state.seen_images == FAILS_AT_IMAGES:
            raise RuntimeError("this step always fails")
        return sound(self, *arguments, **options)

    Step.__call__ = failing  # type: ignore[method-assign]


def install() -> None:
    """Let the steps of this process meet bad numbers: in the discriminator's gradient, the generator's, or a loss."""
    from gan_distributed.training.step import Step

    sound = Step._gradients_of
    if sound.__name__ == "spoiled":
        return

    def spoiled(self: Step, player: Any, part: Any) -> Any:
        gradients, sums = sound(self, player, part)
        marked = part.batch.positions[part.batch.positions % _EVERY == _EVERY - 1]
        kinds = {int(position) // _EVERY % 3 for position in marked}
        if 0 in kinds and player is self._discriminator:
            next(one for one in gradients if one is not None).view(-1)[0] = torch.nan
        if 1 in kinds and player is self._generator:
            next(one for one in gradients if one is not None).view(-1)[-1] = -torch.inf
        if 2 in kinds:
            sums = sums.clone()
            sums[0] = torch.inf
        return gradients, sums

    Step._gradients_of = spoiled  # type: ignore[method-assign]
