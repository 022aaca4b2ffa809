"""When a run is given up, decided without Ray: the budget of failures and the mailbox that keeps it."""

import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_distributed.errors import TrainingError
from gan_distributed.training.failures import SAME_STEP_LIMIT, Failure, FailureBudget
from gan_distributed.training.mailbox import Ended, Mailbox
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.ray_worker import _Driver


def failure_at(seen_images, kind="death", traceback=""):
    return Failure(seen_images, kind, "a worker died", traceback)


# A commit (None), or a failure at a step of its own.
events = st.lists(st.booleans(), max_size=40)


@given(events, st.integers(0, 4))
def test_only_failures_without_a_commit_between_them_count(events, max_failures):
    budget, row, clock = FailureBudget(max_failures), 0, 0
    for is_commit in events:
        clock += 16
        if is_commit:
            budget.commit(clock)
            row = 0
        else:
            row += 1
            assert (budget.charge(failure_at(clock)) is not None) == (row > max_failures)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_a_failure_that_recurs_at_its_step_is_given_up_whatever_is_committed_between(steps):
    budget = FailureBudget(1000)
    for index, step in enumerate(steps):
        budget.commit(index)
        reason = budget.charge(failure_at(step, traceback=f"traceback {index}"))
        first, times = steps.index(step), steps[: index + 1].count(step)
        assert (reason is not None) == (times >= SAME_STEP_LIMIT)
        if reason is not None:
            assert f"{times} times at the same step" in reason
            assert reason.endswith(f"the first time:\ntraceback {first}")


def test_other_errors_at_the_same_step_are_other_failures():
    budget = FailureBudget(1000)
    assert all(budget.charge(failure_at(16, kind)) is None for kind in ("A", "B", "A", "B"))


def test_an_older_commit_is_no_progress():
    budget = FailureBudget(1)
    budget.commit(100)
    assert budget.charge(failure_at(110)) is None
    budget.commit(100)
    budget.commit(90)
    assert "failure 2 since the last checkpoint" in (budget.charge(failure_at(120)) or "")


DEATH = Ended({1: "The actor died unexpectedly"}, "worker failures")


def started(max_failures: int) -> Mailbox:
    mailbox = Mailbox(max_failures)
    assert mailbox.begin() is None
    mailbox.commit(640)
    mailbox.progress(700)
    return mailbox


def test_the_reason_is_the_first_error_that_is_not_another_ranks():
    mailbox = started(3)
    mailbox.failing(0, Failure(720, "PeerLostError", "a reduction failed"))
    mailbox.failing(1, Failure(720, "RuntimeError", "RuntimeError: no more memory", "its traceback"))
    mailbox.end(Ended({}, "worker failures"))
    [line] = mailbox.look(stop=False).lines
    assert line.startswith("RuntimeError: no more memory at 0.7 kimg; the workers are started again from 0.6 kimg")


def test_a_death_is_told_at_the_step_where_the_others_lost_it():
    mailbox = started(1)
    for _ in range(2):
        assert mailbox.begin() is None
        mailbox.failing(0, Failure(736, "PeerLostError", "a reduction failed"))
        mailbox.end(DEATH)
    view = mailbox.look(stop=False)
    assert view.restarts == 1
    assert isinstance(view.error, TrainingError)
    assert "a worker died (rank 1) at 0.7 kimg, failure 2 since the last checkpoint" in str(view.error)
    # What Ray starts all the same is refused.
    assert isinstance(mailbox.begin(), TrainingError)


def test_a_rank_that_only_the_others_miss_is_a_death_too():
    mailbox = started(1)
    mailbox.failing(0, Failure(736, "PeerLostError", "a reduction failed", "its traceback"))
    mailbox.end(Ended({}, "worker failures"))
    assert mailbox.look(stop=False).lines[0].startswith("a worker died at 0.7 kimg; the workers are started again")


@pytest.mark.parametrize("ended", [Ended({}, "preempted", is_preempted=True), DEATH], ids=["told", "only noticed"])
def test_nodes_that_are_taken_away_are_not_charged(ended):
    mailbox = started(0)
    for turn in range(5):
        assert mailbox.begin() is None
        mailbox.notice("the node of rank 1 will be taken away in 20 s")
        mailbox.end(ended)
        assert mailbox.look(stop=False).preemptions == turn + 1
    assert mailbox.begin() is None


def test_waiting_for_nodes_is_told_once_and_not_charged():
    mailbox = started(0)
    for _ in range(3):
        mailbox.end(Ended({}, "timed out", is_waiting=True))
    assert mailbox.look(stop=False).lines == ("waiting for nodes: the cluster has no room for the workers now",)
    assert mailbox.begin() is None


def test_a_stall_of_every_rank_is_one_failure_with_all_stacks():
    mailbox = started(0)
    for rank in (1, 0):
        mailbox.failing(rank, Failure(704, "stall", "no progress for 30 s", f"stacks of {rank}"))
    mailbox.end(DEATH)
    view = mailbox.look(stop=False)
    assert [line for line in view.lines if line.startswith("stacks")] == ["stacks of 1", "stacks of 0"]
    assert "no progress for 30 s at 0.7 kimg, failure 1" in str(view.error)


def test_a_resize_asks_for_a_checkpoint_of_what_was_seen():
    mailbox = started(0)
    assert mailbox.progress(816) == (False, False)
    assert mailbox.resize(3) == 816
    assert mailbox.progress(832) == (False, True)
    mailbox.commit(848)
    assert mailbox.committed() >= 816
    assert mailbox.begin() is None
    assert mailbox.progress(848) == (False, False)
    mailbox.look(stop=True)
    assert mailbox.progress(864) == (True, False)


def test_what_passes_between_processes_pickles():
    mailbox = started(0)
    mailbox.end(DEATH)
    view = pickle.loads(pickle.dumps(mailbox.look(stop=False)))
    assert isinstance(view.error, TrainingError)
    assert pickle.loads(pickle.dumps(_Driver(None)))


def test_the_mailbox_takes_the_end_of_a_run_without_torch():
    """Which it would load for seconds, and not at all where its working folder has been taken away already."""
    end = pickle.dumps(Outcome("done", 640, {"loss": 1.5}, None)).hex()
    program = (
        "import pickle, sys; from gan_distributed.training.mailbox import Mailbox; box = Mailbox(3); "
        f"box.finish(pickle.loads(bytes.fromhex('{end}'))); "
        "print(box.look(False).outcome.kind, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["done", "False"]
