"""Endpoints: names and labels, a taken port, counters that follow totals."""

from servers import free_port, get

from gan_distributed.config import MetricsConfig
from gan_distributed.data.attempts import Counters
from gan_distributed.training.metrics import ControllerMetrics, WorkerMetrics, resident_bytes


def local(port: int | None) -> MetricsConfig:
    return MetricsConfig(host="127.0.0.1", port=port, controller_port=port)


def test_a_taken_port_falls_back_to_a_free_one(caplog):
    port = free_port()
    first = WorkerMetrics(local(port), "run", 0, 0)
    second = WorkerMetrics(local(port), "run", 1, 0)
    assert first.server.port == port
    assert second.server.port not in (None, port)
    assert f"port {port} is taken" in caplog.text
    assert 'rank="1"' in get(f"http://127.0.0.1:{second.server.port}/metrics")
    first.close()
    second.close()
    again = WorkerMetrics(local(port), "run", 0, 0)
    assert again.server.port == port
    again.close()


def test_counters_follow_totals_over_several_streams():
    metrics = WorkerMetrics(local(0), "run", 0, 0)
    counters = Counters()
    counters.add("retries")
    counters.add("retries")
    for total in (100, 250, 30):
        metrics.publish_sources({"bucket": total}, counters)
    text = get(f"http://127.0.0.1:{metrics.server.port}/metrics")
    assert 'gan_shard_bytes_total{rank="0",run="run",source="bucket"} 280.0' in text
    assert 'gan_storage_retries_total{rank="0",run="run"} 2.0' in text
    metrics.close()


def test_no_port_means_no_endpoint():
    metrics = WorkerMetrics(local(None), "run", 0, 0)
    assert metrics.server.port is None
    metrics.add("gan_seen_images", 5)
    metrics.close()
    controller = ControllerMetrics(local(None), "run")
    controller.publish(restarts=1, preemptions=0)
    controller.close()
    assert resident_bytes() > 1 << 20


def test_a_tick_is_shown():
    metrics = WorkerMetrics(local(0), "run", 0, 0)
    names = ("loss_generator", "loss_discriminator", "gradient_norm_generator", "gradient_norm_discriminator")
    record = dict.fromkeys((*names, "accuracy_real", "accuracy_fake", "images_per_s"), 1.5)
    metrics.publish_tick(record | {"augment_probability": 0.25})
    text = get(f"http://127.0.0.1:{metrics.server.port}/metrics")
    assert 'gan_augment_probability{rank="0",run="run"} 0.25' in text
    assert 'gan_loss{network="generator",rank="0",run="run"} 1.5' in text
    metrics.close()
