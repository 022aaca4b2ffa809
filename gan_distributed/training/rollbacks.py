"""Returns to an older checkpoint: remembered outside the checkpoints, since they must outlive them. Rank 0 only."""

import json
from collections.abc import Callable
from typing import Literal

from gan_distributed.data import storage
from gan_distributed.errors import CheckpointError, TrainingError
from gan_distributed.training.checkpoint import checkpoints_newest_first, newest_checkpoint, open_checkpoint
from gan_distributed.training.retention import delete_checkpoint
from gan_distributed.training.run_folder import RunFolder, read_json

Cause = Literal["nonfinite", "collapse"]


def record_rollback(run: RunFolder, reason: str, cause: Cause, say: Callable[[str], None]) -> None:
    """Remember a return to the newest checkpoint; raises TrainingError the second time to the same one."""
    found = newest_checkpoint(run, "state")
    seen_images = found[0].seen_images if found else 0
    number = len(storage.names(storage.join(run.url, "rollbacks"))) + 1
    last = read_json(run.rollback_url(number - 1))
    if last is not None and last["to_seen_images"] == seen_images:
        raise TrainingError(
            f"{run.url}: {reason}, a second time from the checkpoint at {seen_images / 1000:.1f} kimg; lower the "
            "learning rates, raise loss.r1_gamma, or try training.precision float32, under another --run-id"
        )
    record = {"to_seen_images": seen_images, "reason": reason, "cause": cause}
    storage.create(run.rollback_url(number), json.dumps(record).encode())
    say(f"{reason}: going back to {seen_images / 1000:.1f} kimg with other latents and lower learning rates")


def return_to_best(run: RunFolder, best_seen_images: int, reason: str, say: Callable[[str], None]) -> None:
    """Make the best score's checkpoint the newest one, and remember it.

    The newer ones go first: after a crash in between the run goes on from the best one, and meets the collapse again.
    """
    try:
        open_checkpoint(run.checkpoint_url(best_seen_images)).read("state")
    except CheckpointError as error:
        say(f"the checkpoint of the best score cannot be read ({error}); the newest one is taken")
    else:
        for url in list(checkpoints_newest_first(run)):
            if int(url.rsplit("/", 1)[-1]) > best_seen_images:
                delete_checkpoint(url)
    record_rollback(run, reason, "collapse", say)


def num_returns(run: RunFolder) -> int:
    """How often the run went back to its best checkpoint."""
    folder = storage.join(run.url, "rollbacks")
    records = [read_json(storage.join(folder, name)) for name in storage.names(folder)]
    return sum(record is not None and record.get("cause") == "collapse" for record in records)
