"""A whole run without Ray: its two endpoints at the end, and what it leaves on a Pushgateway."""

import re

import pytest
import torch
from datasets import write_dataset
from in_process import train_here
from servers import get, pushgateway

from gan_distributed.errors import ConfigError
from gan_distributed.exposition import Exposition
from gan_distributed.training.step import Step


def test_one_process_tells_as_rank_and_as_driver_and_pushes_its_end(tmp_path, monkeypatch):
    write_dataset(str(tmp_path / "data"))
    last = []

    def look(self, seconds, is_over):
        assert (seconds, is_over()) == (7.0, False)
        last.append(get(f"http://127.0.0.1:{self.port}/metrics"))

    monkeypatch.setattr(Exposition, "linger", look)
    settings = ["metrics.host=127.0.0.1", "metrics.port=0", "metrics.controller_port=0", "metrics.linger_s=7"]
    with pushgateway() as url:
        assert train_here(tmp_path, str(tmp_path / "data"), *settings, f"metrics.pushgateway={url}") == 0
        pushed = get(f"{url}/metrics")
    rank, driver = last
    assert 'gan_progress_seen_images{rank="0",run="r"} 96.0' in rank
    assert 'gan_last_committed_seen_images{rank="0",run="r"} 96.0' in rank
    assert 'gan_last_committed_seen_images{run="r"} 96.0' in driver
    assert 'gan_target_images{run="r"} 96.0' in driver
    assert 'gan_restarts_total{run="r"} 0.0' in driver
    final = dict(re.findall(r'^(gan_final_\w+)\{instance="",job="gan_train",run="r"\} (.*)$', pushed, re.MULTILINE))
    assert final["gan_final_committed_images"] == "96"
    assert float(final["gan_final_seconds"]) > 0
    states = re.findall(r'^gan_final_state\{.*state="(\w+)"\} (.*)$', pushed, re.MULTILINE)
    assert dict(states) == {"done": "1", "failed": "0", "stopped": "0"}


def test_a_gpu_that_is_too_small_is_told_in_a_line_and_costs_nothing_that_was_saved(tmp_path, monkeypatch):
    write_dataset(str(tmp_path / "data"))
    steps, step = [], Step.__call__

    def fails(self, *arguments):
        steps.append(None)
        if len(steps) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 1 GiB.\nMore.")
        return step(self, *arguments)

    monkeypatch.setattr(Step, "__call__", fails)
    told = "rank 0, .*: CUDA out of memory; 16 images pass .* at once: set training.micro_batch_size lower"
    with pytest.raises(ConfigError, match=told) as raised:
        train_here(tmp_path, str(tmp_path / "data"))
    assert "\n" not in str(raised.value)
    assert train_here(tmp_path, str(tmp_path / "data")) == 0
    # Of six steps the second saved; the third and the fourth are taken again.
    assert len(steps) == 4 + 4


def test_what_a_worker_cannot_do_leaves_no_run_behind(tmp_path):
    write_dataset(str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=r"training\.cuda_graphs true needs a GPU"):
        train_here(tmp_path, str(tmp_path / "data"), "training.cuda_graphs=true", "cluster.use_gpu=false")
    # Without it the same run id starts anew, not as a resume with another configuration.
    assert train_here(tmp_path, str(tmp_path / "data"), "cluster.use_gpu=false") == 0
