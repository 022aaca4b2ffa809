"""Who ends early: Ray Tune's own scheduler, told by the roster and with a memory. No Ray is started."""

from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from gan_distributed.sweeping import halving
from gan_distributed.sweeping.halving import Halving
from gan_distributed.sweeping.roster import End, Roster
from gan_distributed.sweeping.rungs import KIMG, Rungs

RUNGS = Rungs("swd", 1.0, 3, 9.0)


class HereRoster:
    """The roster in this process, asked as if it were elsewhere."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self._roster, name))


@pytest.fixture
def roster(monkeypatch):
    monkeypatch.setattr(halving.ray, "get", lambda answer: answer)
    return Roster()


def scheduler_of(roster: Roster, rungs: Rungs = RUNGS, past=None, others=()) -> Halving:
    return Halving(rungs, past or {}, set(others), HereRoster(roster))


def trial(scheduler: Halving, number: int) -> SimpleNamespace:
    added = SimpleNamespace(trial_id=f"id{number}", config={"number": number})
    scheduler.on_trial_add(None, added)
    return added


def tell(scheduler: Halving, one: SimpleNamespace, kimg: float, score: float, metric: str = "swd") -> None:
    assert scheduler.on_trial_result(None, one, {KIMG: kimg, metric: score}) == "CONTINUE"


def test_rungs_lie_before_the_end():
    assert RUNGS.kimg == [1, 3]
    assert Rungs("swd", 0.64 / 9, 3, 0.64).kimg == pytest.approx([0.64 / 9, 0.64 / 3])
    assert Rungs("swd", 10, 3, 9.0).kimg == []


def test_the_poor_are_ended_and_the_good_go_on(roster):
    scheduler = scheduler_of(roster)
    good, poor, better = (trial(scheduler, number) for number in range(3))
    for one, score in ((good, 5.0), (poor, 6.0), (better, 4.0)):
        tell(scheduler, one, 0.5, score)
        assert not roster.is_to_end(one.config["number"])
        tell(scheduler, one, 1.0, score)
    assert [roster.is_to_end(number) for number in range(3)] == [False, True, False]
    # Between rungs nobody is compared.
    tell(scheduler, better, 2.0, 9.0)
    assert not roster.is_to_end(2)


def test_where_higher_is_better_the_lower_are_ended(roster):
    scheduler = scheduler_of(roster, Rungs("precision", 1.0, 3, 9.0))
    good, poor = trial(scheduler, 0), trial(scheduler, 1)
    tell(scheduler, good, 1, 0.8, "precision")
    tell(scheduler, poor, 1, 0.7, "precision")
    assert [roster.is_to_end(number) for number in (0, 1)] == [False, True]


def test_a_score_that_is_no_number_is_the_worst(roster):
    scheduler = scheduler_of(roster)
    good, broken = trial(scheduler, 0), trial(scheduler, 1)
    tell(scheduler, good, 1, 5.0)
    tell(scheduler, broken, 1, float("nan"))
    assert roster.is_to_end(1)


def test_what_earlier_commands_saw_counts(roster):
    """Of trials that are not run again, and of one that goes on, which is not judged a second time."""
    past = {0: [(1.0, 5.0), (3.0, 4.0), (9.0, 3.0)], 1: [(1.0, 4.5), (2.0, 7.0)]}
    scheduler = scheduler_of(roster, past=past, others=[0])
    again, new = trial(scheduler, 1), trial(scheduler, 2)
    tell(scheduler, again, 2.5, 99.0)
    assert not roster.is_to_end(1)
    tell(scheduler, new, 1.0, 4.7)
    assert roster.is_to_end(2)
    tell(scheduler, again, 3.0, 4.5)
    assert roster.is_to_end(1)


def test_how_trials_end_is_told_once():
    roster = Roster()
    for number in range(4):
        roster.begin(number)
    roster.end_poor(1)
    roster.end_poor(2)
    roster.ended(0, True, 900)
    roster.ended(1, False, 100)
    # Poor at its last score, and at its end.
    roster.ended(2, True, 900)
    roster.failed(3, "no more numbers")
    *ends, failed = roster.take_ends()
    told = [(end.number, end.kind, end.seen_images) for end in ends]
    assert told == [(0, "done", 900), (1, "stopped", 100), (2, "done", 900)]
    assert failed == End(3, "failed", 0, "no more numbers")
    assert (roster.take_ends(), roster.num_at_work()) == ([], 0)
    roster.begin(4)
    roster.end_all()
    assert roster.is_to_end(4)
    roster.ended(4, False, 50)
    assert roster.take_ends()[0].kind == "interrupted"
