"""The configuration: sections with every option, recipes in YAML, and what to say about mistakes.

A recipe is one YAML file; `--set section.field=value` overrides a field.
"""

from gan_distributed.config.configuration import (
    Change,
    Config,
    Origin,
    Recorded,
    flattened,
    holds_credential,
    public_values,
)
from gan_distributed.config.data import DataConfig
from gan_distributed.config.model import ModelConfig
from gan_distributed.config.objective import MAX_LEAK_FREE_P, AugmentConfig, LossConfig
from gan_distributed.config.optimizer import AdamConfig, EmaConfig, OptimizerConfig
from gan_distributed.config.recipe import (
    differences,
    load_config,
    parse_choices,
    parse_config,
    parse_overrides,
    to_yaml,
)
from gan_distributed.config.run import CheckpointConfig, ClusterConfig, MetricsConfig, SamplesConfig, TrainingConfig
from gan_distributed.config.score import MetricName, ScoreConfig
from gan_distributed.config.section import Schedule, Section, largest

__all__ = [
    "MAX_LEAK_FREE_P",
    "AdamConfig",
    "AugmentConfig",
    "Change",
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
    "Origin",
    "Recorded",
    "SamplesConfig",
    "Schedule",
    "ScoreConfig",
    "Section",
    "TrainingConfig",
    "differences",
    "flattened",
    "holds_credential",
    "largest",
    "load_config",
    "parse_choices",
    "parse_config",
    "parse_overrides",
    "public_values",
    "to_yaml",
]
