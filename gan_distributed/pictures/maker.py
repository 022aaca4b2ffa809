"""Makes pictures in batches, so that the same subject gives the same bytes whatever else is made with it.

Kernels choose their way by the shape of a batch and the place in it, so that an image's last bits are not its own: in
float32 up to 1e-5 of [-1, 1] (seen for every family on a CPU), which moves a pixel by a level now and then. In float64
they are below 1e-12, and no pixel in a billion lies so near to the border of two levels.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gan_distributed.errors import InputError
from gan_distributed.pictures.subjects import Subject
from gan_distributed.training.samples import Rows, generate_rows, latents_at
from gan_distributed.training.trained import Trained

_MOST_IMAGES, _MOST_PIXELS = 64, 2**19


class Maker:
    """A trained generator on a device; memory is that of one batch. Its weights take no gradients.

    device: None for the GPU where there is one.   fast: in float32, where a pixel may be off by a level.
    """

    def __init__(self, trained: Trained, device: str | None = None, *, fast: bool = False) -> None:
        self._device = _device(device)
        dtype = torch.float32 if fast else torch.float64
        # Whoever has the generator keeps it as it is.
        self.generator = copy.deepcopy(trained.generator).to(self._device, dtype).requires_grad_(False)
        self.latent_dim = trained.config.model.latent_dim
        self.batch_size = max(1, min(_MOST_IMAGES, _MOST_PIXELS // trained.images.resolution**2))

    @property
    def device(self) -> str:
        """Where images are made, as cpu or cuda."""
        return self._device.type

    def make(self, subjects: Iterable[Subject], truncation: float | None) -> Iterator[tuple[Subject, Rows]]:
        """Each subject with its image, uint8 [H, W, C], as they come."""
        remaining = iter(subjects)
        while part := list(itertools.islice(remaining, self.batch_size)):
            rows = self.rows(self.latents(part, truncation), [subject.label for subject in part])
            yield from zip(part, rows, strict=True)

    def latents(self, subjects: Iterable[Subject], truncation: float | None) -> Tensor:
        """Their latents, float64 [N, latent_dim]; truncation: the largest |z|, None for no limit."""
        parts = []
        for seed, group in itertools.groupby(subjects, key=lambda subject: subject.seed):
            numbers = torch.tensor([subject.number for subject in group])
            parts.append(latents_at(seed, numbers, self.latent_dim, truncation))
        return torch.cat(parts)

    def rows(self, latents: Tensor, labels: list[int]) -> Rows:
        """Images of latents, [N, latent_dim], of any number; uint8 [N, H, W, C]."""
        return generate_rows(self.generator, latents, torch.tensor(labels), self.batch_size)


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise InputError(f"--device {name}: not usable here ({said}); leave it out, or give cpu") from error
