"""A long run whose nodes are taken away: what share of its time makes images that are kept, by the mailbox's rules.

Losses come at random (Poisson). One with notice costs the restart; one without costs what was not saved, too, and is
counted against cluster.max_failures. A command that gives up, or whose own node is lost, is run again; it takes the run
over by its lease, which a lost one did not give back.
"""

import random
from dataclasses import dataclass

from gan_distributed.data import attempts
from gan_distributed.training import lease
from gan_distributed.training.failures import Failure
from gan_distributed.training.mailbox import Ended, Mailbox
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.supervision import _LEAVE_S
from simulated.clock import Clock, simulated


@dataclass(frozen=True)
class Setting:
    """Of a run. images_per_s: of all workers.   loss_rate: losses a worker and hour.   noticed: the share that is told
    of notice_s ahead.   every_images: from checkpoint to checkpoint.   save_s: until one is durable.   restart_s: from
    the end of an attempt to the first step of the next.   relaunch_s: from the end of a command to the next one.
    driver_loss_rate: losses of the command's own node an hour.
    """

    workers: int = 1024
    images_per_s: float = 500_000
    loss_rate: float = 0.001
    noticed: float = 0.9
    notice_s: float = 30
    every_images: float = 50e6
    save_s: float = 3
    restart_s: float = 60
    relaunch_s: float = 300
    driver_loss_rate: float = 1 / 72
    max_failures: int = 3


@dataclass(frozen=True)
class Outcome:
    """goodput: images kept, of those that the time would have given.   replayed: images shown again.   launches: of
    the command; the first is one.   lease_wait_s: the longest that a launch waited for the run.
    """

    goodput: float
    losses: int
    replayed: float
    launches: int
    lease_wait_s: float


class _Run:
    def __init__(self, setting: Setting, clock: Clock, url: str) -> None:
        self._setting, self._clock, self._folder = setting, clock, RunFolder(url)
        self.committed = self.replayed = 0.0
        self.losses = self.launches = 0
        self.lease_wait_s = 0.0

    def launch(self, until: float) -> None:
        """One command, to the end of the time or until it gives up."""
        self.launches += 1
        asked = self._clock.now
        held = lease.acquire(self._folder, f"launch {self.launches}")
        self.lease_wait_s = max(self.lease_wait_s, self._clock.now - asked)
        mailbox = Mailbox(self._setting.max_failures)
        lost_at = self._clock.now + random.expovariate(self._setting.driver_loss_rate / 3600)
        end, seen = min(until, lost_at), self.committed
        try:
            while self._clock.now < end and mailbox.look(stop=False).error is None:
                seen = self._attempt(mailbox, end)
        finally:
            if self._clock.now < lost_at:
                held.release()
            else:
                # What a SIGKILL leaves: nobody renews it.
                held._stop.set()
        if self._clock.now >= lost_at:
            self.replayed += seen - self.committed
        else:
            self.committed = max(self.committed, seen)

    def _attempt(self, mailbox: Mailbox, until: float) -> float:
        """From one start of the workers to their end; the images seen in it."""
        setting, clock = self._setting, self._clock
        mean_s = 3600 / (setting.loss_rate * setting.workers)
        loss_at = clock.now + random.expovariate(1 / mean_s)
        began = clock.now + setting.restart_s
        mailbox.begin(setting.workers)
        if min(loss_at, until) <= began:
            # Over before the first step.
            self._lose(mailbox, min(loss_at, until), self.committed, is_noticed=random.random() < setting.noticed)
            return self.committed
        end = min(loss_at, until)
        seen = self.committed + (end - began) * setting.images_per_s
        # What was durable by then: a checkpoint at each interval, save_s later.
        due = (seen - setting.save_s * setting.images_per_s) // setting.every_images * setting.every_images
        self._commit(mailbox, due)
        mailbox.progress(round(seen))
        if loss_at >= until:
            clock.now = until
            return seen
        self._lose(mailbox, end, seen, is_noticed=random.random() < setting.noticed)
        return self.committed

    def _lose(self, mailbox: Mailbox, at: float, seen: float, *, is_noticed: bool) -> None:
        setting = self._setting
        self.losses += 1
        self._clock.now = at
        if is_noticed:
            mailbox.notice("a node will be taken away")
            # As the supervision does it: the ranks leave, saved, before the node does.
            trained_s = max(0.0, setting.notice_s - max(_LEAVE_S, 2 * setting.save_s + 2))
            if seen > self.committed:
                seen += trained_s * setting.images_per_s
            self._clock.now += trained_s + setting.save_s
            self._commit(mailbox, seen)
            mailbox.end(Ended({}, "preempted", is_preempted=True))
            return
        mailbox.failing(1, Failure(round(seen), "PeerLostError", "a reduction failed"))
        mailbox.end(Ended({0: "died"}, "a worker died"))
        self.replayed += seen - self.committed

    def _commit(self, mailbox: Mailbox, seen: float) -> None:
        if seen > self.committed:
            self.committed = seen
            mailbox.commit(round(seen))


def simulate(setting: Setting, hours: float, seed: int = 0) -> Outcome:
    """So many hours of a run."""
    random.seed(seed)
    with simulated(attempts, lease) as clock:
        run = _Run(setting, clock, f"memory://simulation/{random.random()}")
        until = 3600 * hours
        while clock.now < until:
            if run.launches:
                clock.sleep(setting.relaunch_s)
            run.launch(until)
    possible = until * setting.images_per_s
    return Outcome(run.committed / possible, run.losses, run.replayed, run.launches, run.lease_wait_s)
