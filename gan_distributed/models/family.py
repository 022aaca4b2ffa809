"""What a family of networks is: the package's own ones and those that users bring."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

# From (the model section, resolution, channels, classes or 0) to a network.
NetworkMaker = Callable[..., nn.Module]


@dataclass(frozen=True)
class Family:
    """A generator and its discriminator.

    generator, discriminator: classes or functions of (config, resolution, channels, num_classes); config is the section
    `model`, num_classes 0 for an unconditional network. A generator's forward is of (z [N, latent_dim], labels int64
    [N], context) to images [N, channels, resolution, resolution] in [-1, 1], a discriminator's of (images, labels,
    context) to logits [N]; context is None, or what `models.layers` need to know of the global batch.
    initialize: gives a network, seed, name ("generator" or "discriminator") its first weights; None: its own layers'
    initialisers do, from a seed that all workers share.   resolutions: sizes in pixels that it makes; None for any.
    """

    generator: NetworkMaker
    discriminator: NetworkMaker
    initialize: Callable[[nn.Module, int, str], None] | None = None
    resolutions: tuple[int, ...] | None = None
