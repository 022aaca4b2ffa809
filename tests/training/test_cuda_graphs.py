"""Recorded pieces of a step, played on the CPU: what was recorded runs again, and writes over its results.

CUDA's own graphs are tried in test_on_gpu.py.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from test_compiled import CASES, QUICK, trained
from test_families_in_training import config_of
from test_worker_count import CLASSES, assert_equal_up_to_rounding, config_for, tensors_of

from gan_distributed.config import load_config
from gan_distributed.errors import ConfigError
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training import parts, phase_graphs, step
from gan_distributed.training.cuda_graphs import CudaGraphs
from gan_distributed.training.parts import Partition
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


class Played(CudaGraphs):
    """Functions run as they were at their second call, closures and all, and their results lie in one place."""

    made: list[object] = []  # noqa: RUF012 - of all of them

    def __init__(self, device: torch.device, *, records: bool, fleeting: bool = False) -> None:
        super().__init__(device, records=False, fleeting=fleeting)
        self.records = records

    def _recorded(
        self, function: Callable[..., object], inputs: Sequence[torch.Tensor]
    ) -> Callable[[Sequence[torch.Tensor]], object]:
        places, results = [one.clone() for one in inputs], []
        self.made.append(function)

        def replayed(news: Sequence[torch.Tensor]) -> object:
            for place, new in zip(places, news, strict=True):
                place.copy_(new)
            results.append(function(*places))
            first, last = results[0], results.pop() if len(results) > 1 else results[0]
            for old, new in zip(tensors_in(first), tensors_in(last), strict=True):
                old.copy_(new)
            return first

        return replayed


def tensors_in(result: object) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for one in result:
            yield from tensors_in(one)
    elif hasattr(result, "__dict__"):
        yield from tensors_in(list(vars(result).values()))


@pytest.fixture
def played(monkeypatch):
    """Steps on the CPU as if they were recorded; what has been."""
    monkeypatch.setattr(parts, "uses_cuda_graphs", lambda config, world: True)
    for module in (step, phase_graphs):
        monkeypatch.setattr(module, "CudaGraphs", Played)
    monkeypatch.setattr(Played, "made", [])
    return Played.made


@pytest.mark.parametrize("name", NAMES)
def test_recorded_pieces_make_the_step(name, request):
    plain = trained(CASES[name], last=5)
    made = request.getfixturevalue("played")
    ours = trained(CASES[name], last=5)
    assert_equal_up_to_rounding(tensors_of(ours), tensors_of(plain))
    assert made
    assert ours.order_digest == plain.order_digest


def test_each_piece_is_recorded_once_for_its_shapes(played):
    config = config_of("biggan", loss__r1_gamma=0.0, loss__r2_gamma=0.0)
    trained(config, last=2)
    names = sorted(getattr(function, "__name__", "") for function in played)
    # What a phase makes of its part, twice, and what moves after each network's weights; the step's start and its end.
    assert names == ["_finish", "function", "function", "prepare", "settle", "settle"]
    trained(config, last=5)
    assert len(played) == 12


def test_without_norms_nothing_is_left_to_settle(played):
    trained(config_of("r3gan", model__conditional=False), last=2)
    assert "settle" not in [getattr(function, "__name__", "") for function in played]


def test_a_worker_without_a_gpu_refuses_to_record_and_else_does_not():
    config = load_config(None, {"training.cuda_graphs": True})
    with pytest.raises(ConfigError, match=r"training\.cuda_graphs true needs a GPU, this worker has none; set it to"):
        Partition(config, World(), torch.float32)
    assert not Partition(load_config(None, {}), World(), torch.float32).cuda_graphs


def test_no_reduction_over_ranks_is_recorded():
    gpu, shared = World(rank=0, size=2, device=torch.device("cuda", 0)), config_for("bce", 1.0)
    assert not Partition(shared, gpu, torch.float32).cuda_graphs
    wanted = config_for("bce", 1.0, **{"training.cuda_graphs": True})
    with pytest.raises(ConfigError, match=r"training\.cuda_graphs true: model\.batch_norm_groups 1 is no multiple of"):
        Partition(wanted, gpu, torch.float32)
    apart = {"model.batch_norm_groups": 2}
    assert Partition(config_for("bce", 1.0, **apart), gpu, torch.float32).cuda_graphs
    overlapped = config_for("bce", 1.0, **apart, **{"training.reduction_bucket_mb": 25})
    assert not Partition(overlapped, gpu, torch.float32).cuda_graphs
    assert Partition(overlapped, World(device=gpu.device), torch.float32).cuda_graphs


@pytest.mark.parametrize(
    ("failure", "told", "message"),
    [
        (
            RuntimeError("operation not permitted\nand why"),
            ConfigError,
            r"recorded \(operation not permitted\); the host",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), torch.OutOfMemoryError, "CUDA out of memory"),
    ],
)
def test_why_nothing_is_recorded(monkeypatch, failure, told, message):
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
    graphs = CudaGraphs(torch.device("cpu"), records=False)
    graphs.records = True

    def fails(x):
        raise failure

    assert graphs("once", lambda x: x + 1, torch.ones(1)) == 2
    with pytest.raises(told, match=message) as raised:
        graphs("once", fails, torch.ones(1))
    assert "\n" not in str(raised.value)


def test_numbers_go_in_as_tensors_where_they_are_recorded(played):
    state = TrainState(config_for("bce", 1.0), ImageSpec(32, 1, CLASSES), World())
    graphs = Played(state.augment_p.device, records=True)
    for number in (1.0, 2.0, 3.0):
        assert float(graphs("twice", lambda x: 2 * x, number)) == 2 * number
    kept = graphs("twice", lambda x: 2 * x, 4.0, copied=True)
    again = graphs("twice", lambda x: 2 * x, 5.0)
    assert (float(kept), float(again)) == (8.0, 10.0)
