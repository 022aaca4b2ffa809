"""A run's folder as records: what counts, what happened, what is damaged."""

import pytest
from written_runs import BEGAN, add_ticks, interrupted, score, tick, write_run

from gan_distributed.config import Change
from gan_distributed.data import storage
from gan_distributed.errors import InputError
from gan_distributed.reporting.events import replayed, time_at
from gan_distributed.reporting.reading import Reader


def told(run):
    return [(event.kind, event.seen_images, event.text) for event in run.events if event.kind != "checkpoint"]


def test_an_interrupted_run(tmp_path):
    change = Change(field="optimizer.generator.lr", old=1e-3, new=5e-4, seen_images=300, attempt=2)
    rollback = {"to_seen_images": 600, "reason": "20 steps in a row", "cause": "nonfinite"}
    write_run(
        str(tmp_path / "r"),
        interrupted(),
        checkpoints=(600, 900),
        changes=(change,),
        rollbacks=(rollback,),
        samples=(0, 500),
    )
    run = Reader(str(tmp_path / "r")).read()
    assert [(one["seen_images"], one["attempt"]) for one in run.ticks] == [
        *((seen, 1) for seen in (100, 200, 300)),
        *((seen, 2) for seen in range(400, 1100, 100)),
    ]
    assert replayed(run.attempts) == 300
    assert told(run) == [
        ("start", 0, "attempt 1 starts at 0 kimg"),
        ("change", 300, "optimizer.generator.lr changed from 0.001 to 0.0005"),
        ("resize", 300, "1 workers become 2"),
        ("restart", 300, "attempt 2 goes on from 0.3 kimg, 17 min after the last record; 0.3 kimg trained again"),
        ("rollback", 600, "return to 0.6 kimg: 20 steps in a row"),
    ]
    checkpoints = [(event.seen_images, event.text) for event in run.events if event.kind == "checkpoint"]
    assert checkpoints == [(300, "checkpoint, deleted since"), (600, "checkpoint, kept"), (900, "checkpoint, kept")]
    assert (run.samples, run.checkpoints, run.seen_images, run.done) == ([0, 500], [600, 900], 1000, None)


def test_times_lie_between_ticks_in_proportion():
    ticks = [tick(100), tick(200)]
    assert [time_at(ticks, seen) for seen in (0, 50, 150, 200, 201)] == [BEGAN, BEGAN + 1, BEGAN + 3, BEGAN + 4, None]


def test_a_run_that_goes_on_is_read_again_but_for_old_parts(tmp_path, monkeypatch):
    run = write_run(str(tmp_path / "r"), [tick(100)], scores=[score(100, 5.0)])
    add_ticks(run, [tick(200)])
    reader = Reader(run.url)
    signs, first = reader.signs(), reader.read()
    assert reader.signs() == signs
    add_ticks(run, [tick(300)])
    assert reader.signs() != signs
    read, asked = storage.read_bytes, []
    monkeypatch.setattr(storage, "read_bytes", lambda url, num_bytes=None: asked.append(url) or read(url, num_bytes))
    second = reader.read()
    assert [len(first.ticks), len(second.ticks)] == [2, 3]
    parts = [url.rsplit("/", 1)[-1] for url in asked if "/metrics/" in url]
    assert sorted(parts) == ["000000000200-00001.jsonl", "000000000300-00001.jsonl"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics/000000000100-00001.jsonl", b'{"seen_images": 100'),
        ("metrics/000000000100-00001.jsonl", b'{"seen_images": 100}\n'),
        ("metrics/000000000100-00001.jsonl", b"\xff\xfe\n"),
        ("metrics/000000000100-00001.jsonl", b"[1, 2]\n"),
        ("scores/000000000100-00001.jsonl", b'{"metric": "fid", "value": "5"}\n'),
    ],
)
def test_damaged_parts_are_told_in_a_line(tmp_path, name, content):
    run = write_run(str(tmp_path / "r"), [])
    storage.write(f"{run.url}/{name}", content)
    with pytest.raises(InputError, match=rf"{name.split('/')[0]}: a part is damaged .*; remove it"):
        Reader(run.url).read()


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match=r"not a run \(config.yaml is missing\)"):
        Reader(str(tmp_path)).read()
