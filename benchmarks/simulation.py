"""What 1,024 workers would do, simulated: .venv/bin/python benchmarks/simulation.py

Order, retries, leases and restarts are the package's own code; only the clock and the bucket are made up, and so are
the rates, which were not measured. Takes a quarter of a minute.
"""

import random

from simulated.epoch import block_lengths, first_blocks, one_epoch
from simulated.goodput import Setting, simulate
from simulated.storm import Bucket, start_all

from gan_distributed.data.order import Order

# ImageNet at 64 px in colour, blocks of 4 MiB.
NUM_IMAGES, BLOCK_ROWS, BLOCK_BYTES = 1_281_167, 341, 341 * 64 * 64 * 3
WORKERS = LANES = 1024
BATCH_SIZE = 8192
HOURS = 24 * 7


def main() -> None:
    """Print a table of each part."""
    order = Order(block_lengths(NUM_IMAGES, BLOCK_ROWS), seed=0, num_lanes=LANES, window_blocks=4)
    _tell_epoch(order)
    _tell_storm(order)
    _tell_goodput()


def _tell_epoch(order: Order) -> None:
    print(f"One epoch of {NUM_IMAGES:,} images on {WORKERS} ranks, batch {BATCH_SIZE}")
    found = one_epoch(order, BATCH_SIZE, WORKERS)
    print(f"  images of a rank in a batch    {found.local_batches[0]} to {found.local_batches[1]}")
    print(f"  blocks of a rank               {found.rank_blocks[0]} to {found.rank_blocks[1]} of {found.num_blocks}")
    print(f"  blocks that two ranks fetch    {found.shared}, the most of one block: {found.sharers}")
    print(f"  blocks fetched again by a rank {found.again}")


def _tell_storm(order: Order) -> None:
    blocks = [len(found) for found in first_blocks(order, BATCH_SIZE, WORKERS)]
    print(f"\nAll ranks start at one instant: {sum(blocks):,} blocks of {BLOCK_BYTES / 2**20:.1f} MiB")
    print("  bucket grants   waits of ranks   requests a block   peak in 0.1 s   last rank began   all there   lost")
    for requests_per_s in (500, 1000, 5000):
        for spread_s in (0.0, None):
            random.seed(0)
            found = start_all(blocks, BLOCK_BYTES, Bucket(requests_per_s), spread_s=spread_s)
            print(
                f"  {requests_per_s:>8,} a s   {'none' if spread_s == 0 else 'up to 1 s':>14}   "
                f"{found.requests / found.blocks:>16.2f}   {found.peak:>13,}   {found.started_s:>13.1f} s   "
                f"{found.ready_s:>7.1f} s   {found.lost:>4}"
            )


def _tell_goodput() -> None:
    usual = Setting()
    print(f"\n{HOURS} hours of {usual.workers} workers, checkpoints every {usual.every_images / 1e6:.0f} M images")
    print(f"  (every {usual.every_images / usual.images_per_s:.0f} s), restart {usual.restart_s:.0f} s,")
    print(f"  the command's own node lost every {1 / usual.driver_loss_rate:.0f} h in the mean")
    print(
        "  losses a worker and hour   with notice   losses   goodput   shown again   launches   longest wait for lease"
    )
    for loss_rate in (0.0001, 0.001, 0.005):
        for noticed in (1.0, 0.9, 0.0):
            found = simulate(Setting(loss_rate=loss_rate, noticed=noticed), HOURS)
            print(
                f"  {loss_rate:>24}   {noticed:>11.0%}   {found.losses:>6}   {found.goodput:>7.1%}   "
                f"{found.replayed / 1e6:>9.0f} M   {found.launches:>8}   {found.lease_wait_s:>20.0f} s"
            )


if __name__ == "__main__":
    main()
