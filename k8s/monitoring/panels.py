"""The panels of the Grafana board, by rows: what each asks of Prometheus, and what it tells. Holds no Grafana."""

from typing import NamedTuple


class Panel(NamedTuple):
    """queries: an expression and its legend each. In it `@` is the choice of namespace and run."""

    title: str
    unit: str
    text: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def of_run(function: str, metric: str) -> str:
    """One number a run, of all that tell it."""
    return f"{function} by (namespace, run) ({metric})"


_RANK, _RUN = "{{run}} rank {{rank}}", "{{run}}"
_SEEN = of_run("max", "gan_progress_seen_images{@}")
_GOAL = of_run("max", "gan_target_images{@}")
_RATE = of_run("max", "gan_images_per_second{@}")
_RANKS = of_run("max", "gan_world_size{@}")
_SAVED = of_run("max", "gan_last_committed_seen_images{@}")
_STEPS = "sum by (namespace, run, le) (rate(gan_step_seconds_bucket{@}[$__rate_interval]))"
_READ = "sum by (namespace, run, source) (rate(gan_shard_bytes_total{@}[$__rate_interval]))"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Is it well": (
        Panel(
            "Progress", "percent", "Images seen of those to be seen.", ((f"100 * {_SEEN} / {_GOAL}", _RUN),), "gauge"
        ),
        Panel("Time left", "s", "At the rate of the last tick.", ((f"({_GOAL} - {_SEEN}) / {_RATE}", _RUN),), "stat"),
        Panel(
            "Age of the last checkpoint",
            "s",
            "Since its commit; what a restart would lose stands beside it.",
            ((f"time() - {of_run('max', 'gan_last_checkpoint_timestamp_seconds{@}')}", _RUN),),
            "stat",
        ),
        Panel("Not saved yet", "short", "Images a restart would lose.", ((f"{_SEEN} - {_SAVED}", _RUN),), "stat"),
        Panel(
            "Alerts that fire",
            "short",
            "What to do about each stands in docs/operations.md.",
            (('count(ALERTS{alertstate="firing", alertname=~"Gan.+", @}) or vector(0)', "alerts"),),
            "stat",
        ),
        Panel("Ranks at work", "short", "0 while the workers are being started.", ((_RANKS, _RUN),), "stat"),
        Panel("Images seen", "short", "The run's clock; it goes back after a restart.", ((_SEEN, _RUN),)),
        Panel(
            "Checkpoint failures",
            "short",
            "Checkpoints that could not be written, in each hour.",
            ((of_run("max", "increase(gan_checkpoint_failures_total{@}[1h])"), _RUN),),
        ),
    ),
    "Is it learning": (
        Panel(
            "Losses",
            "none",
            "Mean of the last tick.",
            (("max by (namespace, run, network) (gan_loss{@})", "{{run}} {{network}}"),),
        ),
        Panel(
            "Discriminator's accuracy",
            "percentunit",
            "Images told right. Both at 1: the discriminator has won; both at a half: it cannot tell them apart.",
            (("max by (namespace, run, kind) (gan_discriminator_accuracy{@})", "{{run}} {{kind}}"),),
        ),
        Panel(
            "Scores",
            "none",
            "Of the averaged generator, where score.every_kimg is set.",
            (("max by (namespace, run, metric) (gan_score{@})", "{{run}} {{metric}}"),),
        ),
        Panel(
            "Gradient norms",
            "none",
            "Mean of the last tick.",
            (("max by (namespace, run, network) (gan_gradient_norm{@})", "{{run}} {{network}}"),),
        ),
        Panel(
            "Augmentation",
            "percentunit",
            "Probability of each augmentation that the discriminator sees.",
            ((of_run("max", "gan_augment_probability{@}"), _RUN),),
        ),
        Panel(
            "Steps that were skipped",
            "short",
            "For gradients that were not finite, in each hour.",
            ((of_run("max", "increase(gan_nonfinite_steps_total{@}[1h])"), _RUN),),
        ),
        Panel(
            "Signs of a collapse",
            "short",
            "Pinned discriminator, equal images, a far worse score; in each hour.",
            ((of_run("max", "increase(gan_collapse_alarms_total{@}[1h])"), _RUN),),
        ),
        Panel(
            "Rounds of scores skipped",
            "short",
            "They ran out of score.max_s, in each hour.",
            ((of_run("max", "increase(gan_scores_skipped_total{@}[1h])"), _RUN),),
        ),
    ),
    "Is it fast": (
        Panel("Images per second", "short", "Over all ranks, in the last tick.", ((_RATE, _RUN),)),
        Panel(
            "Images per second of each rank",
            "short",
            "Its steps times its part of a batch.",
            (("rate(gan_step_seconds_count{@}[$__rate_interval]) * gan_local_batch_images{@}", _RANK),),
        ),
        Panel(
            "Share of time waiting for images",
            "percentunit",
            "Above 0.2 the ranks starve.",
            (("rate(gan_data_wait_seconds_total{@}[$__rate_interval])", _RANK),),
        ),
        Panel(
            "Time of a step",
            "s",
            "Half of the steps, and 95 and 99 of 100, are faster.",
            tuple((f"histogram_quantile({q}, {_STEPS})", f"{_RUN} p{round(100 * q)}") for q in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Where the time goes",
            "percentunit",
            "Of each rank, where metrics.phase_times is on. The rank that waits least in reductions is the slowest.",
            (("rate(gan_phase_seconds_total{@}[$__rate_interval])", f"{_RANK} {{{{phase}}}}"),),
        ),
        Panel("Steps by their time", "s", "How many of each length.", ((_STEPS, "{{le}}"),), "heatmap"),
        Panel(
            "Scaling efficiency",
            "percentunit",
            "Images per second and rank, of the most that the run had in a week; after a resize, what the new number "
            "of ranks costs.",
            ((f"({_RATE} / {_RANKS}) / max_over_time(({_RATE} / {_RANKS})[1w:5m])", _RUN),),
        ),
        Panel(
            "GPU use",
            "percent",
            "Of the namespace's pods, as NVIDIA's DCGM exporter tells it.",
            (('avg by (namespace, pod, gpu) (DCGM_FI_DEV_GPU_UTIL{namespace=~"$namespace"})', "{{pod}} {{gpu}}"),),
        ),
        Panel("GPU memory", "bytes", "Taken by each rank, at its peak.", (("gan_gpu_memory_bytes{@}", _RANK),)),
    ),
    "Is it costing": (
        Panel(
            "Worker-hours for 1000 images",
            "short",
            "GPU-hours where each worker has one.",
            ((f"{_RANKS} / {_RATE} / 3.6", _RUN),),
        ),
        Panel(
            "Restarts",
            "short",
            "Of the workers, in each hour: after failures, and after nodes that were taken away.",
            (
                (of_run("max", "increase(gan_restarts_total{@}[1h])"), "{{run}} failures"),
                (of_run("max", "increase(gan_preemptions_total{@}[1h])"), "{{run}} nodes"),
            ),
        ),
        Panel(
            "Images shown again",
            "short",
            "What restarts and returns to older checkpoints cost, in each hour.",
            ((of_run("max", "increase(gan_replayed_images_total{@}[1h])"), _RUN),),
        ),
        Panel(
            "Memory of each rank",
            "bytes",
            "Resident; and without mapped files, which must not grow for ever.",
            (
                ("gan_process_resident_bytes{@}", f"{_RANK} resident"),
                ("gan_process_private_bytes{@}", f"{_RANK} private"),
            ),
        ),
    ),
    "Storage": (
        Panel("Bytes read", "Bps", "By where they came from.", ((_READ, "{{run}} {{source}}"),)),
        Panel(
            "Share read from this machine",
            "percentunit",
            "From the cache, or from a data set on this disk.",
            (
                (
                    'sum by (namespace, run) (rate(gan_shard_bytes_total{@, source="cache"}[$__rate_interval])) / '
                    "sum by (namespace, run) (rate(gan_shard_bytes_total{@}[$__rate_interval]))",
                    _RUN,
                ),
            ),
        ),
        Panel(
            "Requests again",
            "short",
            "A second: after an error, second ones for blocks that were late, blocks whose bytes were wrong.",
            (
                (of_run("sum", "rate(gan_storage_retries_total{@}[$__rate_interval])"), "{{run}} retries"),
                (of_run("sum", "rate(gan_storage_hedges_total{@}[$__rate_interval])"), "{{run}} second requests"),
                (of_run("sum", "rate(gan_checksum_failures_total{@}[$__rate_interval])"), "{{run}} wrong bytes"),
            ),
        ),
        Panel(
            "Time to write a checkpoint",
            "s",
            "From the snapshot to the commit; training goes on meanwhile.",
            ((of_run("max", "gan_checkpoint_seconds{@}"), _RUN),),
        ),
    ),
    "Preparing data": (
        Panel(
            "Images prepared",
            "percent",
            "Decoded of those that are expected.",
            (("100 * gan_prepare_images_total{@} / gan_prepare_expected_images{@}", _RUN),),
            "gauge",
        ),
        Panel(
            "Images prepared per second",
            "short",
            "Since the start.",
            (("gan_prepare_images_per_second{@}", _RUN),),
        ),
        Panel(
            "Images that could not be used",
            "short",
            "Listed with the reasons in the data set's quarantine.jsonl.",
            (("gan_prepare_quarantined_images_total{@}", _RUN),),
            "stat",
        ),
        Panel("Bytes prepared", "bytes", "Of images in shards.", (("gan_prepare_bytes_total{@}", _RUN),), "stat"),
    ),
}
