"""A whole run without Ray: its two endpoints at the end, and what it leaves on a Pushgateway."""

import re

from datasets import write_dataset
from in_process import train_here
from servers import get, pushgateway

from gan_distributed.exposition import Exposition


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
