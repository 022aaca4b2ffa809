"""One training step: the discriminator's phases, then the generator's. Holds no loop, no loss and no I/O."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from gan_distributed.config import MAX_LEAK_FREE_P, Config
from gan_distributed.training.cuda_graphs import CudaGraphs
from gan_distributed.training.ema import Average, ema_weight
from gan_distributed.training.masked import Undo
from gan_distributed.training.optimizer import apply_gradients, total_norm
from gan_distributed.training.order_digest import OrderDigest
from gan_distributed.training.parts import DeviceBatch, Part, Partition
from gan_distributed.training.phase_graphs import PhaseGraphs
from gan_distributed.training.phases import Phases
from gan_distributed.training.player import Gradients, Player
from gan_distributed.training.reduction import make_reduction
from gan_distributed.training.schedule import value_at
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

# What a step measures, in this order: means over the global batch and norms of the summed gradients.
STATISTICS = (
    "loss_discriminator",
    "penalty",
    "accuracy_real",
    "accuracy_fake",
    "gradient_norm_discriminator",
    "loss_generator",
    "gradient_norm_generator",
)


@dataclass(frozen=True)
class StepReport:
    """What came out of one step, on the device, equal on all ranks.

    statistics: float64 [len(STATISTICS)].   ok: bool [], false where the step was skipped.
    requests: float [2], above 0 where some rank was asked to stop, and to save.
    """

    statistics: Tensor
    ok: Tensor
    requests: Tensor


class Step:
    """Moves a state by one global batch (times discriminator_steps), or leaves every byte of it but the clock.

    Every rank calls it with its local part. The state's networks and optimizers stay the same objects from here on.
    unhurried: within it no progress is expected, where a step must be compiled first.
    """

    def __init__(
        self,
        config: Config,
        state: TrainState,
        world: World,
        unhurried: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._config, self._state, self._world = config, state, world
        self._partition = Partition(config, world, state.dtype)
        self._phases = Phases(config, state, world, shared_groups=self._partition.shared_groups)
        adam, phases, size = config.optimizer, self._phases, config.training.batch_size
        self._generator = Player(
            state.generator,
            state.generator_optimizer,
            adam.generator,
            phases.generator,
            phases.generator_numbers,
            size,
        )
        self._discriminator = Player(
            state.discriminator,
            state.discriminator_optimizer,
            adam.discriminator,
            phases.discriminator,
            phases.discriminator_numbers,
            size,
        )
        self._reductions = {
            player: make_reduction(config, world, player.parameters)
            for player in (self._generator, self._discriminator)
        }
        recorded = self._partition.cuda_graphs
        self._cuda_graphs = CudaGraphs(world.device, records=recorded)
        self._phase_graphs: PhaseGraphs | None = None
        if recorded or config.training.compile:
            self._phase_graphs = PhaseGraphs(config, world.device, cuda_graphs=recorded, unhurried=unhurried)
        # The discriminator has moved already when the generator's gradients turn out to be bad.
        controlled = [state.augment_p] if config.augment.adaptive else []
        self._undo = Undo([*self._discriminator.tensors(), *controlled])
        self._average = Average(state.ema, state.generator)
        self._digest = OrderDigest(state)
        self._true = torch.ones((), dtype=torch.bool, device=world.device)

    def __call__(self, batches: list[DeviceBatch], stop: bool, save: bool = False) -> StepReport:
        """batches: discriminator_steps of them.   stop, save: what this rank was asked to do after the step."""
        state, images = self._state, self._config.training.batch_size
        *rounds, last = self._prepared(batches)
        phase = self._world.timer.phase
        ok = self._true
        for parts in rounds:
            with phase("discriminator"):
                discriminator_statistics, ok = self._discriminator_phase(parts, ok)
            state.seen_images += images
        with phase("generator"):
            generator_statistics, ok, requests = self._generator_phase(last, ok, (stop, save))
        keep = ema_weight(images * len(batches), self._config.ema.halflife_kimg, state.seen_images)
        self._cuda_graphs("finish", self._finish, ok, keep)
        return StepReport(torch.cat([discriminator_statistics, generator_statistics]), ok, requests)

    def augment_probability(self) -> float:
        """The probability of each augmentation now. Device sync where it is controlled."""
        return float(self._phases.augment_p()) if self._config.augment.policy else 0.0

    def _prepared(self, batches: list[DeviceBatch]) -> list[list[Part]]:
        """The parts of each phase. The batches' digest is added, and what may have to be undone is saved."""

        def prepare(*tensors: Tensor) -> list[list[Part]]:
            self._undo.save()
            arrived = [DeviceBatch(*tensors[start : start + 3]) for start in range(0, len(tensors), 3)]
            for batch in arrived:
                self._digest.add(batch.rows, batch.positions)
            return self._partition(arrived, self._state.rollbacks)

        tensors = (one for batch in batches for one in (batch.rows, batch.labels, batch.positions))
        parts: list[list[Part]] = self._cuda_graphs("prepare", prepare, *tensors)
        return parts

    def _discriminator_phase(self, parts: list[Part], ok: Tensor) -> tuple[Tensor, Tensor]:
        gradients, sums = self._gradients(self._discriminator, parts)
        sums, norm, ok = self._descend(self._discriminator, gradients, sums, ok)
        means = sums.double() / self._config.training.batch_size
        if self._config.augment.adaptive:
            means, mean_sign = means[:-1], means[-1]
            self._control_augmentation(mean_sign)
        return torch.cat([means, norm[None]]), ok

    def _generator_phase(
        self, parts: list[Part], ok: Tensor, requests: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradients, sums = self._gradients(self._generator, parts)
        # Requests ride along, so that all ranks know of them after the same step.
        sums = torch.cat([sums, *(sums.new_full((1,), float(flag)) for flag in requests)])
        sums, norm, ok = self._descend(self._generator, gradients, sums, ok)
        return torch.stack([sums[0].double() / self._config.training.batch_size, norm]), ok, sums[1:]

    def _gradients(self, player: Player, parts: list[Part]) -> tuple[Gradients, Tensor]:
        """Gradients of this rank's addend to the mean loss, and what the phase measured, summed over the parts."""
        reduction, (*others, last) = self._reductions[player], parts
        if not others:
            with reduction.overlapping():
                return self._gradients_of(player, last)
        gradients, sums = self._gradients_of(player, others[0], copied=True)
        for part in others[1:]:
            more, measured = self._gradients_of(player, part, copied=True)
            gradients, sums = _added(gradients, more), sums + measured
        with reduction.overlapping(gradients):
            more, measured = self._gradients_of(player, last, copied=True)
        player.statistics.merge(len(parts))
        return _added(gradients, more), sums + measured

    def _gradients_of(self, player: Player, part: Part, *, copied: bool = False) -> tuple[Gradients, Tensor]:
        if self._phase_graphs is None:
            return player.gradients(part)
        return self._phase_graphs.gradients(player, part, copied=copied)

    def _descend(self, player: Player, gradients: Gradients, sums: Tensor, ok: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move a player down its gradient, where all is finite. Returns sums and gradient norm of all ranks, and ok."""
        # Each rank knows the statistics of its own groups only; they ride along, and so does whether they are numbers.
        observed = player.statistics.observed() if self._partition.split_groups else []
        health = player.statistics.health(sums)
        extras = torch.cat([sums, health, *observed])
        reduced, extras = self._reductions[player].sum(gradients, extras)
        sizes = [len(sums), 1, *(len(statistic) for statistic in observed)]
        sums, health, *summed = torch.split(extras, sizes)
        for statistic, over_ranks in zip(observed, summed, strict=True):
            statistic.copy_(over_ranks)
        norm = total_norm(reduced)
        # A hinge is finite in its gradient where it is not in its loss, and running statistics are in neither.
        ok = ok & torch.isfinite(norm + sums.sum() + health[0])
        seen_images = self._state.seen_images
        lr = value_at(player.config.lr, seen_images)
        lr *= self._config.training.rollback_lr_factor**self._state.rollbacks
        with self._world.timer.phase("optimizer"):
            apply_gradients(player.optimizer, reduced, lr, value_at(player.config.beta2, seen_images), ok)
            self._settle(player, ok)
        return sums, norm, ok

    def _settle(self, player: Player, ok: Tensor) -> None:
        """Move what follows a network's weights, where ok (bool []) is true."""
        if not (player.statistics or player.power_iteration):
            return
        statistics, layers = tree_flatten(player.statistics.taken())

        def settle(ok: Tensor, *statistics: Tensor) -> None:
            player.statistics.give(tree_unflatten(statistics, layers))
            player.statistics.commit(ok)
            player.power_iteration.advance(ok)

        self._cuda_graphs(("settle", player), settle, ok, *statistics)

    def _control_augmentation(self, mean_sign: Tensor) -> None:
        """Raise p where the discriminator is surer of real images than the target, else lower it (ADA; Karras et al.
        2020, sec. 3). A bad step's p is undone with the discriminator.
        """
        config, p = self._config.augment, self._state.augment_p
        change = self._config.training.batch_size / (1000 * config.ada_kimg)
        p.add_((mean_sign - config.target).sign(), alpha=change).clamp_(0.0, MAX_LEAK_FREE_P)

    def _finish(self, ok: Tensor, keep: float | Tensor) -> None:
        self._undo.restore_unless(ok)
        self._average.update(keep, ok)
        skipped, bad = self._state.skipped, ~ok
        skipped += bad
        # The row of them ends with a good step.
        skipped[1] *= bad


def _added(gradients: Gradients, more: Gradients) -> list[Tensor | None]:
    """Sums of two lists of gradients; None is zeros."""
    return [
        other if one is None else one if other is None else one + other
        for one, other in zip(gradients, more, strict=True)
    ]
