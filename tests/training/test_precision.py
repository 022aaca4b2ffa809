"""Which numbers a run computes in: by the device at its first start, and the same ever after."""

import pytest
import torch
from datasets import write_dataset
from in_process import run_here

from gan_distributed.config import load_config, parse_config
from gan_distributed.errors import ConfigError, ResumeError
from gan_distributed.training import precision

CPU = torch.device("cpu")
OPEN = load_config(None)


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [({}, "float32"), ({"avx2": True}, "float32"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16")],
)
def test_a_cpu_takes_bf16_where_it_has_instructions_for_it(instructions, chosen, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert precision.with_precision(OPEN, None, CPU).training.precision == chosen
    named = load_config(None, {"training.precision": "float64"})
    assert precision.with_precision(named, None, CPU) == named


def test_tf32_is_refused_without_such_a_gpu():
    with pytest.raises(ConfigError, match=r"training\.precision tf32 needs a GPU .* this worker has none"):
        precision.with_precision(load_config(None, {"training.precision": "tf32"}), None, CPU)


def test_a_resume_elsewhere_computes_as_the_first_start(tmp_path, monkeypatch):
    write_dataset(str(tmp_path / "data"), num=64)
    run = tmp_path / "run"
    left_open = ["training.precision=null", "samples.every_kimg=null"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    lines: list[str] = []
    run_here(str(tmp_path / "data"), run, *left_open, "training.total_kimg=0.032", say=lines.append)
    monkeypatch.undo()
    more = [*left_open, "training.total_kimg=0.064"]
    run_here(str(tmp_path / "data"), run, *more, say=lines.append)
    starts = [line for line in lines if line.startswith("attempt")]
    assert len(starts) == 2
    assert all("on 1 x cpu in bf16" in line for line in starts)
    assert parse_config((run / "config.yaml").read_text(), "it").training.precision == "bf16"
    with pytest.raises(ResumeError, match=r"training\.precision was bf16, now float32"):
        run_here(str(tmp_path / "data"), run, "training.precision=float32", "training.total_kimg=0.096")
