"""At which ages trials of a sweep are compared."""

from dataclasses import dataclass

KIMG = "kimg"
# Rungs are before the end, also where the end is a multiple of the first one.
_BEFORE = 1 - 1e-9


@dataclass(frozen=True)
class Rungs:
    """Where trials are compared by a metric: at first_kimg, and at `reduction` times the last rung, until the end.

    Of those that came to a rung, the best one of `reduction` goes on.
    """

    metric: str
    first_kimg: float
    reduction: int
    total_kimg: float

    @property
    def end_kimg(self) -> float:
        """Before it all rungs lie."""
        return self.total_kimg * _BEFORE

    @property
    def kimg(self) -> list[float]:
        """All rungs; none where no trial ends early."""
        found, at = [], self.first_kimg
        while at < self.end_kimg:
            found.append(at)
            at *= self.reduction
        return found
