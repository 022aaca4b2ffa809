"""What ranks and the driver tell: names, labels, how many series, what promtool thinks of them."""

import subprocess
import urllib.request

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from servers import get

from gan_distributed.config import Config, load_config
from gan_distributed.config.score import MetricName
from gan_distributed.data.attempts import Counters
from gan_distributed.training.mailbox import View
from gan_distributed.training.metrics import ControllerMetrics, WorkerMetrics
from gan_distributed.training.outcome import Outcome

MEANS = ["loss_generator", "loss_discriminator", "gradient_norm_generator", "gradient_norm_discriminator"]
MEANS += ["accuracy_real", "accuracy_fake", "images_per_s"]
RECORD = dict.fromkeys(MEANS, 1.5) | {"seen_images": 640, "augment_probability": 0.25}
# What bounds the number of series: each label, and how many values it has.
LABELS = {"run": 1, "rank": 1, "network": 2, "kind": 2, "source": 2, "metric": len(MetricName.__args__), "le": 12}


def local(port: int | None = 0) -> Config:
    metrics = {"host": "127.0.0.1", "port": port, "controller_port": port}
    return load_config(None, {"run_id": "run", "metrics": metrics})


def worker(rank: int = 0, port: int | None = 0) -> WorkerMetrics:
    return WorkerMetrics(local(port).metrics, "run", rank, 0, gpu_bytes=lambda: 5.0)


def text_of(metrics: WorkerMetrics | ControllerMetrics) -> str:
    return get(f"http://127.0.0.1:{metrics.exposition.port}/metrics")


def told_all() -> WorkerMetrics:
    """A rank that told whatever it can tell."""
    metrics = worker()
    metrics.publish_start(local(), world_size=3, seen_images=320, replayed_images=64)
    metrics.publish_tick(RECORD)
    metrics.observe_step(0.1)
    metrics.publish_sources({"bucket": 100, "cache": 50}, Counters())
    metrics.publish_checkpoint(0.5, 640, 1e9)
    metrics.publish_checkpoint_failures(2)
    for name in MetricName.__args__:
        metrics.set("gan_score", 1.0, metric=name)
    return metrics


def test_series_are_few_and_their_labels_known():
    metrics = told_all()
    families = list(text_string_to_metric_families(text_of(metrics)))
    samples = [sample for family in families for sample in family.samples]
    values = {}
    for sample in samples:
        assert sample.labels["run"] == "run"
        assert sample.labels["rank"] == "0"
        for label, value in sample.labels.items():
            values.setdefault(label, set()).add(value)
    assert {label: len(found) for label, found in values.items()} == LABELS
    assert len(samples) < 70
    metrics.close()


def test_promtool_finds_nothing_to_blame():
    controller = ControllerMetrics(local(), lambda: False)
    controller.publish(View(running=True, world_size=2, seen_images=640, committed=320))
    metrics = told_all()
    for one in (metrics, controller):
        words = ["promtool", "check", "metrics"]
        lint = subprocess.run(words, input=text_of(one), capture_output=True, text=True, check=False)
        assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
        one.close()


def test_a_scraper_that_asks_for_openmetrics_gets_it():
    metrics = told_all()
    address = f"http://127.0.0.1:{metrics.exposition.port}/metrics"
    request = urllib.request.Request(address, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        families = {family.name for family in openmetrics.text_string_to_metric_families(answer.read().decode())}
    assert {"gan_seen_images", "gan_step_seconds", "gan_score"} <= families
    metrics.close()


def test_a_tick_is_shown():
    metrics = told_all()
    text = text_of(metrics)
    assert 'gan_augment_probability{rank="0",run="run"} 0.25' in text
    assert 'gan_loss{network="generator",rank="0",run="run"} 1.5' in text
    assert 'gan_progress_seen_images{rank="0",run="run"} 640.0' in text
    # 22 of 64 lanes of batches of 64.
    assert 'gan_local_batch_images{rank="0",run="run"} 22.0' in text
    assert 'gan_replayed_images_total{rank="0",run="run"} 64.0' in text
    metrics.close()


def test_without_a_gpu_nothing_is_told_of_its_memory():
    metrics = WorkerMetrics(local().metrics, "run", 0, 0)
    metrics.publish_tick(RECORD)
    assert "gan_gpu_memory_bytes{" not in text_of(metrics)
    metrics.close()


def test_the_driver_tells_of_the_run_while_no_worker_is_there():
    metrics = ControllerMetrics(local(), lambda: False)
    metrics.publish(View(running=True, world_size=2, seen_images=640, committed=-1))
    assert 'gan_world_size{run="run"} 2.0' in text_of(metrics)
    assert "gan_last_checkpoint_timestamp_seconds{" not in text_of(metrics)
    metrics.publish(View(running=False, world_size=2, seen_images=900, committed=640, restarts=2, preemptions=1))
    text = text_of(metrics)
    for told in ("world_size", "last_committed_seen_images", "restarts_total", "preemptions_total", "target_images"):
        assert f'gan_{told}{{run="run"}} ' in text
    assert 'gan_world_size{run="run"} 0.0' in text
    assert 'gan_restarts_total{run="run"} 2.0' in text
    assert 'gan_last_committed_seen_images{run="run"} 640.0' in text
    assert "gan_last_checkpoint_timestamp_seconds{" in text
    metrics.close()


def test_no_port_means_no_endpoint():
    metrics = worker(port=None)
    assert metrics.exposition.port is None
    metrics.add("gan_seen_images", 5)
    metrics.close()
    controller = ControllerMetrics(local(None), lambda: False)
    controller.publish(View(restarts=1))
    controller.finish(Outcome("done", 640, {}, None))
    controller.close()
