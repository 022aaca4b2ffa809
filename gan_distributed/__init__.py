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
"""

__version__ = "0.1.0"
