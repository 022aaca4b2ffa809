"""All combinations of the values that a sweep varies: each has a number, its place in the grid. Pure arithmetic."""

import math
import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Grid:
    """axes: the values of each key, in the order that the user gave; those of the last one change first."""

    axes: dict[str, list[Any]]

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return math.prod(len(values) for values in self.axes.values())

    def values(self, number: int) -> dict[str, Any]:
        """One combination: key -> value."""
        found = {}
        for key, values in reversed(self.axes.items()):
            number, place = divmod(number, len(values))
            found[key] = values[place]
        return {key: found[key] for key in self.axes}

    def drawn(self, num: int, seed: int) -> list[int]:
        """So many different numbers, by seed: fewer are the first of more. All of them where the grid has no more."""
        if num >= self.size:
            return list(range(self.size))
        draw, moved, found = random.Random(seed), dict[int, int](), []
        # The beginning of a shuffle of all numbers, without the list of them.
        for at in range(num):
            place = draw.randrange(at, self.size)
            found.append(moved.get(place, place))
            moved[place] = moved.get(at, at)
        return found
