"""One training step: the discriminator's phases, then the generator's. Holds no loop and no I/O."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_distributed.config import Config
from gan_distributed.models.layers import BatchContext, commit_statistics, discard_statistics, observed_statistics
from gan_distributed.models.networks import images_from_rows
from gan_distributed.randomness import Draws, key_of, mix_tensor
from gan_distributed.training.ema import ema_weight, update_ema
from gan_distributed.training.losses import LOSSES, gradient_penalty
from gan_distributed.training.optimizer import apply_gradients, total_norm
from gan_distributed.training.schedule import value_at
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

# Fakes draw in the discriminator (dropout) at positions of their own.
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


class Step:
    """Moves a state by one global batch (times discriminator_steps). Every rank calls it with its local part."""

    def __init__(self, config: Config, state: TrainState, world: World) -> None:
        self._config, self._state, self._world = config, state, world
        self._loss = LOSSES[config.loss.name]
        self._autocast = config.training.precision == "bf16"
        groups = config.model.batch_norm_groups
        # A group is all lanes equal modulo `groups`; with groups a multiple of the ranks each lies on one rank.
        self._split_groups = world.size > 1 and groups % world.size == 0
        self._shared_groups = world.size > 1 and not self._split_groups
        self._row_weights: Tensor | None = None

    def __call__(self, batches: list[DeviceBatch], stop: bool) -> StepReport:
        """batches: discriminator_steps of them.   stop: whether this rank was asked to stop."""
        state = self._state
        ok = torch.ones((), dtype=torch.bool, device=self._world.device)
        for batch in batches:
            self._digest(batch)
            discriminator_statistics, ok = self._discriminator_phase(batch, ok)
            state.seen_images += self._config.training.batch_size
        generator_statistics, ok, stopping = self._generator_phase(batches[-1], ok, stop)
        images = self._config.training.batch_size * len(batches)
        keep = ema_weight(images, self._config.ema.halflife_kimg, state.seen_images)
        update_ema(state.ema, state.generator, keep, ok)
        self._count(ok)
        return StepReport(torch.cat([discriminator_statistics, generator_statistics]), ok, stopping)

    def _discriminator_phase(self, batch: DeviceBatch, ok: Tensor) -> tuple[Tensor, Tensor]:
        state, config = self._state, self._config
        r1_gamma = value_at(config.loss.r1_gamma, state.seen_images)
        r2_gamma = value_at(config.loss.r2_gamma, state.seen_images)
        real = images_from_rows(batch.rows, state.dtype).requires_grad_(r1_gamma > 0)
        with torch.no_grad():
            fake = self._generate(batch, "discriminator")
        # The generator's statistics move in its own phase only.
        discard_statistics(state.generator)
        fake.requires_grad_(r2_gamma > 0)
        real_logits, fake_logits = self._judge(real, fake, batch)
        terms = self._loss.discriminator(real_logits, fake_logits, config.loss.label_smoothing)
        penalty = torch.zeros_like(terms)
        if r1_gamma > 0:
            penalty = penalty + r1_gamma / 2 * gradient_penalty(real, real_logits)
        if r2_gamma > 0:
            penalty = penalty + r2_gamma / 2 * gradient_penalty(fake, fake_logits)
        boundary = self._loss.boundary
        sums = torch.stack(
            [
                terms.detach().sum(),
                penalty.detach().sum(),
                (real_logits > boundary).to(terms.dtype).sum(),
                (fake_logits < boundary).to(terms.dtype).sum(),
            ]
        )
        gradients, sums = self._reduced_gradients((terms + penalty).sum(), state.discriminator, sums)
        norm = total_norm(gradients)
        ok = ok & torch.isfinite(norm)
        lr = self._lr(config.optimizer.discriminator.lr)
        apply_gradients(state.discriminator_optimizer, gradients, lr, ok)
        commit_statistics(state.discriminator, ok)
        return torch.cat([sums.double() / config.training.batch_size, norm[None]]), ok

    def _generator_phase(self, batch: DeviceBatch, ok: Tensor, stop: bool) -> tuple[Tensor, Tensor, Tensor]:
        state, config = self._state, self._config
        fake = self._generate(batch, "generator")
        with self._precision():
            logits = state.discriminator(fake, batch.labels, self._context(batch.positions + _FAKE, "judge generator"))
        terms = self._loss.generator(logits.to(state.dtype))
        discard_statistics(state.discriminator)
        sums = torch.stack([terms.detach().sum(), terms.new_full((), float(stop))])
        gradients, sums = self._reduced_gradients(terms.sum(), state.generator, sums)
        norm = total_norm(gradients)
        ok = ok & torch.isfinite(norm)
        apply_gradients(state.generator_optimizer, gradients, self._lr(config.optimizer.generator.lr), ok)
        commit_statistics(state.generator, ok)
        return torch.stack([sums[0].double() / config.training.batch_size, norm]), ok, sums[1]

    def _generate(self, batch: DeviceBatch, phase: str) -> Tensor:
        z = self._draws("latents " + phase, batch.positions).normal(self._config.model.latent_dim)
        with self._precision():
            fake: Tensor = self._state.generator(
                z.to(self._state.dtype), batch.labels, self._context(batch.positions, "generate " + phase)
            )
        return fake.to(self._state.dtype)

    def _judge(self, real: Tensor, fake: Tensor, batch: DeviceBatch) -> tuple[Tensor, Tensor]:
        """Logits of both; in one pass where the discriminator keeps samples apart."""
        discriminator, labels, positions = self._state.discriminator, batch.labels, batch.positions
        with self._precision():
            if discriminator.mixes_samples:
                real_logits = discriminator(real, labels, self._context(positions, "judge"))
                fake_logits = discriminator(fake, labels, self._context(positions + _FAKE, "judge"))
            else:
                both = self._context(torch.cat([positions, positions + _FAKE]), "judge")
                logits = discriminator(torch.cat([real, fake]), torch.cat([labels, labels]), both)
                real_logits, fake_logits = logits.chunk(2)
        return real_logits.to(self._state.dtype), fake_logits.to(self._state.dtype)

    def _reduced_gradients(self, loss_sum: Tensor, network: nn.Module, sums: Tensor) -> tuple[list[Tensor], Tensor]:
        parameters = list(network.parameters())
        loss = loss_sum / self._config.training.batch_size
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        # Each rank knows the statistics of its own groups only; they ride along.
        observed = observed_statistics(network) if self._split_groups else []
        extras = torch.cat([sums, *observed])
        reduced, extras = self._world.sum_gradients(gradients, parameters, extras)
        start = len(sums)
        for statistic in observed:
            statistic.copy_(extras[start : start + len(statistic)])
            start += len(statistic)
        return reduced, extras[: len(sums)]

    def _context(self, positions: Tensor, purpose: str) -> BatchContext:
        groups = self._config.model.batch_norm_groups
        # Where there is one group its statistics are those of all samples.
        lanes = (positions % _FAKE) % self._config.data.num_lanes
        return BatchContext(
            draws=self._draws(purpose, positions),
            sum_over_ranks=self._world.sum_over_ranks,
            groups=lanes % groups if groups > 1 else None,
            num_groups=groups,
            shared=self._shared_groups,
        )

    def _draws(self, purpose: str, positions: Tensor) -> Draws:
        return Draws(key_of(self._config.seed, self._state.rollbacks, purpose), positions)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._autocast)

    def _lr(self, lr: object) -> float:
        factor = self._config.training.rollback_lr_factor**self._state.rollbacks
        return value_at(lr, self._state.seen_images) * factor  # type: ignore[arg-type]

    def _count(self, ok: Tensor) -> None:
        total, row = self._state.skipped
        bad = (~ok).to(torch.int64)
        self._state.skipped.copy_(torch.stack([total + bad, (row + bad) * bad]))

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
