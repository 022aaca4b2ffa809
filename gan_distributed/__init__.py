"""Train GANs on images, on one laptop core or on a Ray cluster of GPUs, with the same command.

The data flow, top to bottom, one file a stage:

    prepare       raw images -> shards of uint8 rows and a manifest, in a folder or bucket
    data.order    which row stands at which position: arithmetic, the same for any number of workers
    data.storage  bytes at any URL
    data.shards   bytes -> rows
    data.stream   rows -> local batches of this rank
    training.loop one step a batch; samples, checkpoints and metrics at their intervals
    training.step the two phases: losses, gradients
    training.world      gradients summed over ranks
    training.optimizer  Adam, one for each network
    training.ema        the averaged generator, which generate, samples and scores use
    evaluation    its images -> features -> scores, each with the protocol that made it
    pictures, exporting  what leaves: PNG files, films, programs for others

In Python: `gan_distributed.load_generator(url)(num=16, seed=0)`; more in `gan_distributed.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_distributed.api import load_generator as load_generator

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load_generator` on first use: torch takes seconds to import, which nobody else should wait for."""
    if name == "load_generator":
        from gan_distributed.api import load_generator

        return load_generator
    raise AttributeError(f"module 'gan_distributed' has no attribute {name!r}")
