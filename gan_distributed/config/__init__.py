"""The configuration: sections with every option, recipes in YAML, and what to say about mistakes.

A recipe is one YAML file; `--set section.field=value` overrides a field.
"""

from gan_distributed.config.recipe import differences, load_config, parse_config, parse_overrides, to_yaml
from gan_distributed.config.score import MetricName, ScoreConfig
from gan_distributed.config.sections import (
    AdamConfig,
    CheckpointConfig,
    ClusterConfig,
    Config,
    DataConfig,
    EmaConfig,
    LossConfig,
    MetricsConfig,
    ModelConfig,
    OptimizerConfig,
    Recorded,
    SamplesConfig,
    Schedule,
    Section,
    TrainingConfig,
)

__all__ = [
    "AdamConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "EmaConfig",
    "LossConfig",
    "MetricName",
    "MetricsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Recorded",
    "SamplesConfig",
    "Schedule",
    "ScoreConfig",
    "Section",
    "TrainingConfig",
    "differences",
    "load_config",
    "parse_config",
    "parse_overrides",
    "to_yaml",
]
