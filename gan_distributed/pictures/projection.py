"""Looks for the latent whose image is nearest to a given one, by the gradient of a distance. Writes nothing.

A search may end in a local minimum, and most images of the world no latent makes at all. Some starts go on together by
Adam, with noise that fades and a rate that warms up and cools down (as Karras et al. 2020, "Analyzing and improving the
image quality of StyleGAN", appendix D, where the mapped latent moves instead); the best one then goes on alone by
L-BFGS (Liu & Nocedal 1989), which comes to the bottom of a valley in far fewer steps.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from gan_distributed.errors import InputError
from gan_distributed.pictures.maker import Maker
from gan_distributed.randomness import Draws, key_of

# Of rates from 0.05 to 1 this one came nearest, on a generator of 32 px.
_RATE, _WARM_UP, _COOL_DOWN = 0.3, 0.05, 0.25
_NOISE, _NOISE_UNTIL = 0.05, 0.75
_PRIOR, _PRIOR_DEVIATIONS = 0.1, 3.0
_LEAST_SIDE = 4
# Shares of the steps: a first look at every class, all starts together; what is left is the best one's.
_FIRST_LOOK, _TOGETHER = 1 / 6, 2 / 3
_DRAWN_A_START = 16
# Latents kept on the way, for pictures of it.
_MOST_KEPT = 48


@dataclass(frozen=True)
class Search:
    """steps: gradients that the best start takes.   starts: how many of them, of each class where it is not given."""

    steps: int
    starts: int
    seed: int


@dataclass(frozen=True)
class Starts:
    """Latents that are searched from. latents: float [K, latent_dim].   labels: int64 [K]."""

    latents: Tensor
    labels: Tensor

    def take(self, chosen: Tensor) -> "Starts":
        """Some of them."""
        return Starts(self.latents[chosen], self.labels[chosen])


@dataclass
class Way:
    """What is known of the steps of a search that went on with several starts.

    losses: [K] each, at every step.   latents: step -> [K, latent_dim], at some of them, the last one among them.
    """

    steps: int
    losses: list[Tensor] = field(default_factory=list)
    latents: dict[int, Tensor] = field(default_factory=dict)

    def add(self, latents: Tensor, losses: Tensor) -> None:
        """Where a step begins."""
        step = len(self.losses)
        self.losses.append(losses.detach())
        # More of them at the beginning, where more happens.
        share = math.sqrt(step / self.steps)
        if math.floor(share * _MOST_KEPT) >= len(self.latents):
            self.latents[step] = latents.detach().clone()

    def of(self, start: int) -> "Way":
        """That of one start alone."""
        only = slice(start, start + 1)
        latents = {step: latents[only] for step, latents in self.latents.items()}
        return Way(self.steps, [losses[only] for losses in self.losses], latents)


@dataclass(frozen=True)
class Found:
    """The nearest latent.

    latent: float [latent_dim].   by_class: the least root mean square error, in 255 levels, after the first look.
    """

    label: int
    latent: Tensor
    way: Way
    by_class: dict[int, float]


def find_latent(maker: Maker, target: Tensor, labels: list[int], search: Search, say: Callable[[str], None]) -> Found:
    """Search the given classes. Raises InputError where the generator makes no finite images.

    maker: of float32.   target: float [1, C, H, W] in [-1, 1].   say: takes lines of progress.
    """
    with _repeatable():
        view = _View(maker, target, search)
        starts = view.starts(labels)
        by_class: dict[int, float] = {}
        if len(labels) > 1:
            say(f"a first look at {len(labels)} classes, {search.starts} starts each")
            starts, by_class = view.first_look(starts)
        way = Way(search.steps)
        ended = view.descend(starts, math.ceil(search.steps * _TOGETHER), way)
        errors = view.errors(ended)
        if not errors.isfinite().any():
            raise InputError("the generator's images are not finite; give another checkpoint")
        best = int(errors.nan_to_num(math.inf).argmin())
        say(
            f"best of {len(errors)} starts after {len(way.losses)} steps: {_levels(errors[best]):.1f} of 255 levels off"
        )
        latent, way = view.refine(ended.take(torch.tensor([best])), way.of(best))
        return Found(int(ended.labels[best]), latent, way, by_class)


class _View:
    """One image, and the generator that is to make it."""

    def __init__(self, maker: Maker, target: Tensor, search: Search) -> None:
        self._maker, self._search = maker, search
        parameter = next(maker.generator.parameters())
        self._target = target.to(parameter.device, parameter.dtype)

    def starts(self, labels: list[int]) -> Starts:
        """Of each class the nearest ones of many latents that are drawn."""
        num, key = self._search.starts, key_of(self._search.seed, "projection", "starts")
        drawn = Draws(key, torch.arange(num * _DRAWN_A_START)).normal(self._maker.latent_dim)
        parts = []
        for label in labels:
            of_class = Starts(drawn.to(self._target), torch.full((len(drawn),), label, device=self._target.device))
            parts.append(of_class.take(self.errors(of_class).argsort(stable=True)[:num]))
        return Starts(torch.cat([part.latents for part in parts]), torch.cat([part.labels for part in parts]))

    def first_look(self, starts: Starts) -> tuple[Starts, dict[int, float]]:
        """The best ones, which may be of one class or of several, and each class's least error."""
        steps = math.ceil(self._search.steps * _FIRST_LOOK)
        parts = [self.descend(part, steps, Way(steps)) for part in self._batches(starts)]
        ended = Starts(torch.cat([part.latents for part in parts]), starts.labels)
        errors = self.errors(ended)
        by_class: dict[int, float] = {}
        for label, error in zip(ended.labels.tolist(), errors, strict=True):
            by_class[label] = min(_levels(error), by_class.get(label, math.inf))
        return ended.take(errors.argsort(stable=True)[: self._search.starts]), by_class

    def descend(self, starts: Starts, steps: int, way: Way) -> Starts:
        """Where Adam ends from each start (Kingma & Ba 2015); no start knows of the others."""
        latents = starts.latents.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents])
        numbers = torch.arange(len(latents))
        for step in range(steps):
            rate, noise = _rate_and_noise(step / steps)
            optimizer.param_groups[0]["lr"] = rate
            draws = Draws(key_of(self._search.seed, "projection", "noise", step), numbers)
            moved = latents + noise * draws.normal(latents.shape[1]).to(latents)
            losses = self._losses(moved, starts.labels)
            way.add(latents, losses)
            optimizer.zero_grad()
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return Starts(latents.detach(), starts.labels)

    def refine(self, start: Starts, way: Way) -> tuple[Tensor, Way]:
        """The end of one start's way by L-BFGS, and the whole way."""
        latents = start.latents.clone().requires_grad_()
        left = way.steps - len(way.losses)
        optimizer = torch.optim.LBFGS([latents], max_iter=left, max_eval=left, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = self._losses(latents, start.labels)
            way.add(latents, losses)
            loss = losses.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        if left:
            optimizer.step(closure)  # type: ignore[no-untyped-call]
        way.add(latents, self._losses(latents, start.labels))
        way.latents[len(way.losses) - 1] = latents.detach()
        return latents.detach()[0], way

    @torch.no_grad()
    def errors(self, starts: Starts) -> Tensor:
        """Mean squared errors of pixels, [K]."""
        parts = [
            (self._maker.generator(part.latents, part.labels) - self._target).square().mean((1, 2, 3))
            for part in self._batches(starts)
        ]
        return torch.cat(parts)

    def _losses(self, latents: Tensor, labels: Tensor) -> Tensor:
        """What is made small, [K]: the distance, and how far z lies out of where training's latents do.

        |z|^2 / latent_dim of a normal z is 1 in the mean, with a variance of 2 / latent_dim.
        """
        distances = pyramid_distance(self._maker.generator(latents, labels), self._target)
        most = 1 + _PRIOR_DEVIATIONS * math.sqrt(2 / self._maker.latent_dim)
        return distances + _PRIOR * (latents.square().mean(1) - most).clamp_min(0).square()

    def _batches(self, starts: Starts) -> Iterator[Starts]:
        size = self._maker.batch_size
        for latents, labels in zip(torch.split(starts.latents, size), torch.split(starts.labels, size), strict=True):
            yield Starts(latents, labels)


def pyramid_distance(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of pixels, and of means over 2 x 2, 4 x 4, … of them, in the mean over these sizes.

    The coarse ones lead to an image whose parts are roughly in place, where pixels alone see two edges that miss each
    other (compare the pyramid of Bojanowski et al. 2018, "Optimizing the latent space of generative networks").
    images: float [N, C, H, W].   target: float [1, C, H, W].   Returns [N].
    """
    difference = images - target
    levels = [difference.square().mean((1, 2, 3))]
    while difference.shape[2] >= 2 * _LEAST_SIDE:
        difference = functional.avg_pool2d(difference, 2)
        levels.append(difference.square().mean((1, 2, 3)))
    return torch.stack(levels).mean(0)


def _rate_and_noise(share: float) -> tuple[float, float]:
    """Of a share of all steps in [0, 1); the schedule of Karras et al. 2020, at a rate for z."""
    cooled = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / _COOL_DOWN))
    warmed = min(1.0, (share + 1e-3) / _WARM_UP)
    return _RATE * cooled * warmed, _NOISE * max(0.0, 1 - share / _NOISE_UNTIL) ** 2


def _levels(error: Tensor) -> float:
    """A mean squared error of [-1, 1] as its root in 255 levels."""
    return 127.5 * math.sqrt(float(error))


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    """Within, a GPU's convolutions take ways that give the same bits each time."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
