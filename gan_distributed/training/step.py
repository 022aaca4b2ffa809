"""One training step: the discriminator's phases, then the generator's. Holds no loop and no I/O."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_distributed.config import Config, Schedule
from gan_distributed.models.layers import BatchContext, Groups
from gan_distributed.models.networks import images_from_rows
from gan_distributed.randomness import Draws, key_of, mix_tensor
from gan_distributed.training.ema import Average, ema_weight
from gan_distributed.training.losses import LOSSES, gradient_penalty
from gan_distributed.training.masked import Undo
from gan_distributed.training.optimizer import apply_gradients, optimizer_tensors, total_norm
from gan_distributed.training.power_iteration import PowerIteration
from gan_distributed.training.schedule import value_at
from gan_distributed.training.state import TrainState
from gan_distributed.training.statistics import RunningStatistics
from gan_distributed.training.world import World

# Fakes draw in the discriminator (dropout), and the generator's phase its latents, at positions of their own.
_FAKE = 1 << 60
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
class DeviceBatch:
    """The local part of a global batch on the device.

    rows: uint8 [n, H, W, C].   labels, positions: int64 [n].
    """

    rows: Tensor
    labels: Tensor
    positions: Tensor


@dataclass(frozen=True)
class StepReport:
    """What came out of one step, on the device, equal on all ranks.

    statistics: float64 [len(STATISTICS)].   ok: bool [], false where the step was skipped.
    stop: float [], above 0 where some rank was asked to stop.
    """

    statistics: Tensor
    ok: Tensor
    stop: Tensor


@dataclass(frozen=True)
class _Part:
    """A batch with what a phase needs beside it: latents, float [n, latent_dim], and the samples' groups."""

    batch: DeviceBatch
    latents: Tensor
    groups: Groups | None


class _Player:
    """One network and what moves it."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Adam, lr: float | Schedule) -> None:
        self.network, self.optimizer, self.lr = network, optimizer, lr
        self.parameters = list(network.parameters())
        self.statistics = RunningStatistics(network)
        self.power_iteration = PowerIteration(network)

    def tensors(self) -> list[Tensor]:
        """All that a step moves."""
        return [*self.parameters, *self.network.buffers(), *optimizer_tensors(self.optimizer)]


class Step:
    """Moves a state by one global batch (times discriminator_steps), or leaves every byte of it but the clock.

    Every rank calls it with its local part. The state's networks and optimizers stay the same objects from here on.
    """

    def __init__(self, config: Config, state: TrainState, world: World) -> None:
        self._config, self._state, self._world = config, state, world
        self._loss = LOSSES[config.loss.name]
        self._autocast = config.training.precision == "bf16"
        groups = config.model.batch_norm_groups
        # A group is all lanes equal modulo `groups`; with groups a multiple of the ranks each lies on one rank.
        self._split_groups = world.size > 1 and groups % world.size == 0
        self._shared_groups = world.size > 1 and not self._split_groups
        adam = config.optimizer
        self._generator = _Player(state.generator, state.generator_optimizer, adam.generator.lr)
        self._discriminator = _Player(state.discriminator, state.discriminator_optimizer, adam.discriminator.lr)
        # The discriminator has moved already when the generator's gradients turn out to be bad.
        self._undo = Undo(self._discriminator.tensors())
        self._average = Average(state.ema, state.generator)
        self._true = torch.ones((), dtype=torch.bool, device=world.device)
        self._row_weights: Tensor | None = None

    def __call__(self, batches: list[DeviceBatch], stop: bool) -> StepReport:
        """batches: discriminator_steps of them.   stop: whether this rank was asked to stop."""
        state, images = self._state, self._config.training.batch_size
        *parts, last = self._parts(batches)
        self._undo.save()
        ok = self._true
        for part in parts:
            self._digest(part.batch)
            discriminator_statistics, ok = self._discriminator_phase(part, ok)
            state.seen_images += images
        generator_statistics, ok, stopping = self._generator_phase(last, ok, stop)
        self._undo.restore_unless(ok)
        self._average.update(ema_weight(images * len(batches), self._config.ema.halflife_kimg, state.seen_images), ok)
        self._count(ok)
        return StepReport(torch.cat([discriminator_statistics, generator_statistics]), ok, stopping)

    def _parts(self, batches: list[DeviceBatch]) -> list[_Part]:
        """A part a phase: the generator's takes the last batch's labels, and latents of its own. One draw for all."""
        positions = torch.cat([*(batch.positions for batch in batches), batches[-1].positions + _FAKE])
        latents = self._draws("latents", positions).normal(self._config.model.latent_dim).to(self._state.dtype)
        batches = [*batches, batches[-1]]
        sizes = [len(batch.positions) for batch in batches]
        parts: list[_Part] = []
        groups = None
        for batch, z in zip(batches, torch.split(latents, sizes), strict=True):
            if not parts or batch is not parts[-1].batch:
                groups = self._groups(batch.positions)
            parts.append(_Part(batch, z, groups))
        return parts

    def _groups(self, positions: Tensor) -> Groups | None:
        count = self._config.model.batch_norm_groups
        if count == 1:
            return None
        return Groups(positions % self._config.data.num_lanes % count, count, self._state.dtype)

    def _discriminator_phase(self, part: _Part, ok: Tensor) -> tuple[Tensor, Tensor]:
        state, config, batch = self._state, self._config, part.batch
        r1_gamma = value_at(config.loss.r1_gamma, state.seen_images)
        r2_gamma = value_at(config.loss.r2_gamma, state.seen_images)
        real = images_from_rows(batch.rows, state.dtype).requires_grad_(r1_gamma > 0)
        with torch.no_grad():
            fake = self._generate(part, "discriminator", observe=False)
        fake.requires_grad_(r2_gamma > 0)
        real_logits, fake_logits = self._judge(real, fake, part)
        terms = self._loss.discriminator(real_logits, fake_logits, config.loss.label_smoothing)
        penalty = None
        if r1_gamma > 0:
            penalty = r1_gamma / 2 * gradient_penalty(real, real_logits)
        if r2_gamma > 0:
            fake_penalty = r2_gamma / 2 * gradient_penalty(fake, fake_logits)
            penalty = fake_penalty if penalty is None else penalty + fake_penalty
        boundary = self._loss.boundary
        with torch.no_grad():
            measured = torch.stack(
                [
                    terms,
                    torch.zeros_like(terms) if penalty is None else penalty,
                    (real_logits > boundary).to(terms.dtype),
                    (fake_logits < boundary).to(terms.dtype),
                ]
            ).sum(1)
        loss = (terms if penalty is None else terms + penalty).sum()
        sums, norm, ok = self._descend(self._discriminator, loss, measured, ok)
        return torch.cat([sums.double() / config.training.batch_size, norm[None]]), ok

    def _generator_phase(self, part: _Part, ok: Tensor, stop: bool) -> tuple[Tensor, Tensor, Tensor]:
        fake = self._generate(part, "generator", observe=True)
        with self._precision():
            context = self._context(part.batch.positions + _FAKE, "judge generator", part.groups, observe=False)
            logits = self._state.discriminator(fake, part.batch.labels, context)
        terms = self._loss.generator(logits.to(self._state.dtype))
        loss = terms.sum()
        sums = torch.stack([loss.detach(), loss.new_full((), float(stop))])
        sums, norm, ok = self._descend(self._generator, loss, sums, ok)
        return torch.stack([sums[0].double() / self._config.training.batch_size, norm]), ok, sums[1]

    def _generate(self, part: _Part, phase: str, *, observe: bool) -> Tensor:
        with self._precision():
            context = self._context(part.batch.positions, "generate " + phase, part.groups, observe=observe)
            fake: Tensor = self._state.generator(part.latents, part.batch.labels, context)
        return fake.to(self._state.dtype)

    def _judge(self, real: Tensor, fake: Tensor, part: _Part) -> tuple[Tensor, Tensor]:
        """Logits of both; in one pass where the discriminator keeps samples apart."""
        discriminator, labels, positions = self._state.discriminator, part.batch.labels, part.batch.positions
        with self._precision():
            if discriminator.mixes_samples:
                real_logits = discriminator(real, labels, self._context(positions, "judge", part.groups))
                fake_logits = discriminator(fake, labels, self._context(positions + _FAKE, "judge", part.groups))
            else:
                both = self._context(torch.cat([positions, positions + _FAKE]), "judge", None)
                logits = discriminator(torch.cat([real, fake]), torch.cat([labels, labels]), both)
                real_logits, fake_logits = logits.chunk(2)
        return real_logits.to(self._state.dtype), fake_logits.to(self._state.dtype)

    def _descend(self, player: _Player, loss_sum: Tensor, sums: Tensor, ok: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move a player down its gradient, where all is finite. Returns sums and gradient norm of all ranks, and ok."""
        loss = loss_sum / self._config.training.batch_size
        gradients = torch.autograd.grad(loss, player.parameters, allow_unused=True)
        # Each rank knows the statistics of its own groups only; they ride along.
        observed = player.statistics.observed() if self._split_groups else []
        reduced, extras = self._world.sum_gradients(gradients, player.parameters, torch.cat([sums, *observed]))
        sizes = [len(sums), *(len(statistic) for statistic in observed)]
        sums, *summed = torch.split(extras, sizes)
        for statistic, over_ranks in zip(observed, summed, strict=True):
            statistic.copy_(over_ranks)
        norm = total_norm(reduced)
        ok = ok & torch.isfinite(norm)
        factor = self._config.training.rollback_lr_factor**self._state.rollbacks
        apply_gradients(player.optimizer, reduced, value_at(player.lr, self._state.seen_images) * factor, ok)
        player.statistics.commit(ok)
        player.power_iteration.advance(ok)
        return sums, norm, ok

    def _context(self, positions: Tensor, purpose: str, groups: Groups | None, *, observe: bool = True) -> BatchContext:
        draws = self._draws(purpose, positions)
        return BatchContext(draws, self._world.sum_over_ranks, groups, self._shared_groups, observe)

    def _draws(self, purpose: str, positions: Tensor) -> Draws:
        return Draws(key_of(self._config.seed, self._state.rollbacks, purpose), positions)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._autocast)

    def _count(self, ok: Tensor) -> None:
        skipped, bad = self._state.skipped, ~ok
        skipped += bad
        # The row of them ends with a good step.
        skipped[1] *= bad

    def _digest(self, batch: DeviceBatch) -> None:
        """Add hash(position, the row's bytes) of every row that arrived, modulo 2^64."""
        if not len(batch.rows):
            return
        words = batch.rows.flatten(1).view(torch.int64)
        if self._row_weights is None:
            place = torch.zeros(1, dtype=torch.int64, device=words.device)
            # Odd weights: a change of any one word changes the row's hash.
            self._row_weights = Draws(key_of("row hash"), place).bits(words.shape[1])[0] | 1
        row_hashes = mix_tensor((words * self._row_weights).sum(1))
        self._state.order_digest += mix_tensor(row_hashes ^ mix_tensor(batch.positions)).sum()
