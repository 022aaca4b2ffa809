"""What each network wants of a part of a batch: its loss with penalties, as a graph. Moves nothing, reduces nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gan_distributed.config import Config, Schedule
from gan_distributed.models.augment import Augment
from gan_distributed.models.convolution import constant_weights
from gan_distributed.models.layers import BatchContext, Groups
from gan_distributed.models.networks import images_from_rows
from gan_distributed.randomness import Draws, key_of
from gan_distributed.training.losses import find_loss, image_gradients, squared_distance_from_one, squared_norm
from gan_distributed.training.parts import BETWEEN, FAKE, Part
from gan_distributed.training.schedule import value_at
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

# Where a set's draws stand beside the real images' positions.
_PLACES = {"real": 0, "fake": FAKE, "between": BETWEEN}


@dataclass(frozen=True)
class _Penalty:
    """A penalty on the discriminator's gradient at some images, by the name of their set."""

    at: str
    of_gradient: Callable[[Tensor], Tensor]
    weight: float | Schedule
    every: int
    factor: float

    def weight_now(self, seen_images: int, batch_size: int) -> float:
        """Its factor in this discriminator step: 0 between two uses of a lazy one, which counts for all of them."""
        if seen_images // batch_size % self.every:
            return 0.0
        return value_at(self.weight, seen_images) * self.factor * self.every


@dataclass(frozen=True)
class Numbers:
    """What a phase takes from the clock.

    penalties: the weights of those that are due, by the set of images that each is at.   augment_p: of each change.
    """

    augment_p: float | Tensor
    penalties: Mapping[str, float | Tensor] = field(default_factory=dict)


class Phases:
    """The losses of both players, as sums over the images of a part. Without numbers a phase takes those of now."""

    def __init__(self, config: Config, state: TrainState, world: World, *, shared_groups: bool) -> None:
        self._config, self._state, self._world = config, state, world
        self._shared_groups = shared_groups
        self._loss = find_loss(config.loss)
        self._autocast = config.training.precision == "bf16"
        # Of the part that the generator's phase goes on with: the images, and their graph.
        self._kept: tuple[Part, Tensor] | None = None
        self._augment = Augment(config.augment.policy) if config.augment.policy else None
        loss = config.loss
        penalties = (
            _Penalty("real", squared_norm, loss.r1_gamma, loss.r1_every, 0.5),
            _Penalty("fake", squared_norm, loss.r2_gamma, loss.r2_every, 0.5),
            _Penalty("between", squared_distance_from_one, loss.gp_weight, loss.gp_every, 1.0),
        )
        self._penalties = {penalty.at: penalty for penalty in penalties if penalty.weight != 0}

    def augment_p(self) -> float | Tensor:
        """The probability of each augmentation now: a number, or float64 [] where it is controlled."""
        p = self._config.augment.p
        return self._state.augment_p if isinstance(p, str) else value_at(p, self._state.seen_images)

    def discriminator_numbers(self) -> Numbers:
        """Those of the discriminator's phase at the state's clock."""
        seen_images, batch_size = self._state.seen_images, self._config.training.batch_size
        weights = {penalty.at: penalty.weight_now(seen_images, batch_size) for penalty in self._penalties.values()}
        return Numbers(self.augment_p(), {at: weight for at, weight in weights.items() if weight > 0})

    def generator_numbers(self) -> Numbers:
        """Those of the generator's phase, whose images have no penalty."""
        return Numbers(self.augment_p())

    def discriminator(self, part: Part, numbers: Numbers | None = None) -> tuple[Tensor, Tensor]:
        """The loss, and sums over images: loss, penalty, real and fake told right; adaptive: signs of real."""
        numbers = numbers or self.discriminator_numbers()
        batch, dtype = part.batch, self._state.dtype
        real = images_from_rows(batch.rows, dtype)
        fake = self._generate_for_discriminator(part)
        sets = {"real": real, "fake": fake}
        penalized = list(numbers.penalties)
        if "between" in penalized:
            share = self._draws("interpolate", batch.positions).uniform(1, 1, 1).to(dtype)
            sets["between"] = torch.lerp(fake, real, share)
        for name in penalized:
            sets[name].requires_grad_()
        logits = self._judge(sets, part, "judge", numbers, observe=True)
        terms = self._loss.discriminator(logits["real"], logits["fake"], self._config.loss.label_smoothing)
        penalty_terms = None
        if penalized:
            gradients = image_gradients([sets[name] for name in penalized], [logits[name] for name in penalized])
            for name, gradient in zip(penalized, gradients, strict=True):
                addend = numbers.penalties[name] * self._penalties[name].of_gradient(gradient)
                penalty_terms = addend if penalty_terms is None else penalty_terms + addend
        sums = self._measure(terms, penalty_terms, logits)
        return (terms if penalty_terms is None else terms + penalty_terms).sum(), sums

    def generator(self, part: Part, numbers: Numbers | None = None) -> tuple[Tensor, Tensor]:
        """The loss, and its sum over images, float [1]."""
        numbers = numbers or self.generator_numbers()
        kept, self._kept = self._kept, None
        fake = kept[1] if kept is not None and kept[0] is part else self._generate(part, "generator", observe=True)
        sets = {"fake": fake}
        with constant_weights():
            logits = self._judge(sets, part, "judge generator", numbers, observe=False)["fake"]
        if self._loss.paired:
            sets = {"real": images_from_rows(part.batch.rows, self._state.dtype)}
            # Nothing that moves in this phase depends on them.
            with torch.no_grad():
                real_logits = self._judge(sets, part, "judge generator", numbers, observe=False)["real"]
            logits = logits - real_logits
        loss = self._loss.generator(logits).sum()
        return loss, loss.detach()[None]

    def _generate_for_discriminator(self, part: Part) -> Tensor:
        """Constant images; where the generator's phase takes the same part next, it goes on with their graph."""
        if part.kept:
            fake = self._generate(part, "generator", observe=True)
            self._kept = part, fake
            return fake.detach()
        phase = "discriminator" if self._config.training.fresh_latents else "generator"
        with torch.no_grad():
            return self._generate(part, phase, observe=False)

    def _generate(self, part: Part, phase: str, *, observe: bool) -> Tensor:
        with self._precision():
            context = self._context(part.batch.positions, "generate " + phase, part.groups, observe=observe)
            fake: Tensor = self._state.generator(part.latents, part.batch.labels, context)
        return fake.to(self._state.dtype)

    def _judge(
        self, sets: dict[str, Tensor], part: Part, purpose: str, numbers: Numbers, *, observe: bool
    ) -> dict[str, Tensor]:
        """Logits of sets of images by their names; in one pass where the discriminator keeps samples apart."""
        discriminator, batch = self._state.discriminator, part.batch
        mixes = discriminator.mixes_samples
        p = numbers.augment_p
        logits: dict[str, Tensor] = {}
        for names in [[name] for name in sets] if mixes else [list(sets)]:
            images = _join([sets[name] for name in names])
            positions = _join([batch.positions + _PLACES[name] for name in names])
            if self._augment is not None and not (isinstance(p, float) and p == 0):
                images = self._augment(images, self._draws("augment " + purpose, positions), p)
            with self._precision():
                context = self._context(positions, purpose, part.groups if mixes else None, observe=observe)
                found = discriminator(images, _join([batch.labels] * len(names)), context).to(self._state.dtype)
            logits |= zip(names, found.chunk(len(names)) if len(names) > 1 else (found,), strict=True)
        return logits

    def _measure(self, terms: Tensor, penalty_terms: Tensor | None, logits: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            real_right, fake_right = self._loss.told_right(logits["real"], logits["fake"])
            measured = [
                terms,
                torch.zeros_like(terms) if penalty_terms is None else penalty_terms,
                real_right.to(terms.dtype),
                fake_right.to(terms.dtype),
            ]
            if self._config.augment.adaptive and self._loss.boundary is not None:
                measured.append((logits["real"] - self._loss.boundary).sign())
            return torch.stack(measured).sum(1)

    def _context(self, positions: Tensor, purpose: str, groups: Groups | None, *, observe: bool) -> BatchContext:
        draws = self._draws(purpose, positions)
        return BatchContext(draws, self._world.sum_over_ranks, groups, self._shared_groups, observe)

    def _draws(self, purpose: str, positions: Tensor) -> Draws:
        return Draws(key_of(self._config.seed, self._state.rollbacks, purpose), positions)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._autocast)


def _join(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
