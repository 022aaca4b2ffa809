"""The parts that a step takes through the networks: a phase's batch with its latents, whole or in micro-batches.

Holds no network. Everything about a sample follows from its position, so no cut changes what is drawn for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError
from gan_distributed.models.layers import Groups
from gan_distributed.randomness import Draws, key_of
from gan_distributed.training.cuda_graphs import uses_cuda_graphs
from gan_distributed.training.world import World

# Fakes draw in the discriminator (dropout, augmentation), and the generator's phase its latents, at positions of their
# own; so do images between real and fake.
FAKE = 1 << 60
BETWEEN = 2 * FAKE


@dataclass(frozen=True)
class DeviceBatch:
    """The local part of a global batch on the device.

    rows: uint8 [n, H, W, C].   labels, positions: int64 [n].
    """

    rows: Tensor
    labels: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Part:
    """What passes through the networks at once.

    batch: its real images are mirrored already.   latents: float [n, latent_dim].   groups: of batch norm.
    kept: whether the generator's phase takes the same part next, and goes on with the images made for it.
    """

    batch: DeviceBatch
    latents: Tensor
    groups: Groups | None
    kept: bool = False


class Partition:
    """How the local batches of a step become parts. cuda_graphs: whether what comes of them is recorded."""

    def __init__(self, config: Config, world: World, dtype: torch.dtype) -> None:
        self._config, self._dtype = config, dtype
        self._groups = config.model.batch_norm_groups
        # A group is all lanes equal modulo `groups`; with groups a multiple of the ranks each lies on one rank.
        self.split_groups = world.size > 1 and self._groups % world.size == 0
        self.shared_groups = world.size > 1 and not self.split_groups
        self._one_whole = self._groups == world.size
        size, micro = config.training.batch_size, config.training.micro_batch_size
        self._micro = micro if micro is not None and micro < size else None
        # Images of a batch-norm group; 1 where images can be parted anyhow.
        self._group_size = size // self._groups if config.model.has_batch_norm else 1
        shares = self.shared_groups and config.model.has_batch_norm
        if shares:
            self._check_needs_no_shared_groups(world.size)
        # A reduction over ranks in the midst of a phase stays out of what is recorded.
        self.cuda_graphs = uses_cuda_graphs(config, world) and not shares

    def __call__(self, batches: list[DeviceBatch], rollbacks: int) -> list[list[Part]]:
        """The parts of each phase: the generator's takes the last batch, and latents of its own, where they are fresh;
        else it takes the last discriminator phase's parts. One draw for all.
        """
        config = self._config
        again = [batches[-1]] if config.training.fresh_latents else []
        positions = torch.cat([*(batch.positions for batch in batches), *(batch.positions + FAKE for batch in again)])
        draws = Draws(key_of(config.seed, rollbacks, "latents"), positions)
        latents = draws.normal(config.model.latent_dim).to(self._dtype)
        if config.augment.flip:
            batches = [_mirrored(batch, config.seed) for batch in batches]
        batches = [*batches, *batches[-1:]] if again else batches
        sizes = [len(batch.positions) for batch in batches]
        phases: list[list[Part]] = []
        for index, (batch, z) in enumerate(zip(batches, torch.split(latents, sizes), strict=True)):
            if self._micro is not None:
                phases.append([self._part(*cut) for cut in self._cut(batch, z, self._micro)])
            elif index and batch is batches[index - 1]:
                phases.append([Part(batch, z, phases[-1][0].groups)])
            else:
                phases.append([self._part(batch, z)])
        return phases if again else self._with_last_kept(phases)

    def _check_needs_no_shared_groups(self, size: int) -> None:
        training = self._config.training
        for name, value, off in (
            ("micro_batch_size", self._micro, "null"),
            ("compile", "true" if training.compile else None, "false"),
            ("cuda_graphs", "true" if training.cuda_graphs else None, "null"),
            ("reduction_bucket_mb", training.reduction_bucket_mb, "null"),
        ):
            if value is not None:
                raise ConfigError(
                    f"training.{name} {value}: model.batch_norm_groups {self._groups} is no multiple of the {size} "
                    f"workers, so a batch-norm group lies on several of them; set model.batch_norm_groups to {size} or "
                    f"a multiple, or {name} to {off}"
                )

    def _with_last_kept(self, phases: list[list[Part]]) -> list[list[Part]]:
        """The generator's phase as the last discriminator phase. Micro-batches are made anew, as their graphs together
        would take the memory that they save, and so is what compiled or recorded phases take, which share no graph.
        """
        *others, last = phases
        if len(last) == 1 and not (self.cuda_graphs or self._config.training.compile):
            last = [replace(last[0], kept=True)]
        return [*others, last, last]

    def _part(self, batch: DeviceBatch, latents: Tensor) -> Part:
        if self._groups == 1:
            return Part(batch, latents, None)
        index = batch.positions % self._config.data.num_lanes % self._groups
        return Part(batch, latents, Groups(index, self._groups, self._dtype, one_whole=self._one_whole))

    def _cut(self, batch: DeviceBatch, latents: Tensor, micro: int) -> list[tuple[DeviceBatch, Tensor]]:
        """Micro-batches of whole batch-norm groups, which lie interleaved in the batch; any cut without batch norm."""
        num = len(batch.positions)
        if num <= micro:
            return [(batch, latents)]
        tensors = (batch.rows, batch.labels, batch.positions, latents)
        columns = (self._cut_tensor(tensor, micro) for tensor in tensors)
        return [(DeviceBatch(rows, labels, positions), z) for rows, labels, positions, z in zip(*columns, strict=True)]

    def _cut_tensor(self, tensor: Tensor, micro: int) -> Sequence[Tensor]:
        if self._group_size == 1:
            return torch.split(tensor, micro)
        # [images of a group, groups on this rank, …]
        groups = tensor.reshape(self._group_size, -1, *tensor.shape[1:])
        return [part.flatten(0, 1) for part in torch.split(groups, micro // self._group_size, 1)]


def _mirrored(batch: DeviceBatch, seed: int) -> DeviceBatch:
    """Every second image left to right, by position; as the images' order, it stays the same after going back."""
    mirror = Draws(key_of(seed, "flip"), batch.positions).keep(0.5, 1, 1, 1)
    return DeviceBatch(torch.where(mirror, batch.rows.flip(2), batch.rows), batch.labels, batch.positions)
