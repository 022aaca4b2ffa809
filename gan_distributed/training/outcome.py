"""How a run ended, as the mailbox passes it on. Imports nothing of torch, which the mailbox would load for it alone."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, equal on all ranks."""

    kind: Literal["done", "stopped"]
    seen_images: int
    record: dict[str, Any]
    last_grid: str | None
