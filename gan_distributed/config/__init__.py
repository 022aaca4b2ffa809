"""The configuration: sections with every option, recipes in YAML, and what to say about mistakes.

A recipe is one YAML file; `--set section.field=value` overrides a field.
"""

from gan_distributed.config.objective import MAX_LEAK_FREE_P, AugmentConfig, LossConfig
from gan_distributed.config.optimizer import AdamConfig, EmaConfig, OptimizerConfig
from gan_distributed.config.recipe import differences, load_config, parse_config, parse_overrides, to_yaml
from gan_distributed.config.section import Schedule, Section
from gan_distributed.config.sections import (
    CheckpointConfig,
    ClusterConfig,
    Config,
    DataConfig,
    MetricsConfig,
    ModelConfig,
    Recorded,
    SamplesConfig,
    TrainingConfig,
)

__all__ = [
    "MAX_LEAK_FREE_P",
    "AdamConfig",
    "AugmentConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "EmaConfig",
    "LossConfig",
    "MetricsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Recorded",
    "SamplesConfig",
    "Schedule",
    "Section",
    "TrainingConfig",
    "differences",
    "load_config",
    "parse_config",
    "parse_overrides",
    "to_yaml",
]
