"""Settings of a run: typed sections, their ranges, and reading and writing them as YAML."""

from todm.config.augment import AugmentConfig
from todm.config.data import DataConfig
from todm.config.dropout import DropoutConfig, DropoutScheduleConfig, MixedConfig, ReweightedConfig
from todm.config.export import ExportConfig
from todm.config.io import config_from_dict, config_to_yaml, load_config, save_config
from todm.config.loss import ContrastiveConfig, DistillConfig, LossConfig, SandwichConfig
from todm.config.model import Mode, ModelConfig, SpaceConfig
from todm.config.optim import CollapseConfig, OptimConfig
from todm.config.root import Config
from todm.config.search import SearchConfig
from todm.config.train import TrainConfig

__all__ = [
    "AugmentConfig",
    "CollapseConfig",
    "Config",
    "ContrastiveConfig",
    "DataConfig",
    "DistillConfig",
    "DropoutConfig",
    "DropoutScheduleConfig",
    "ExportConfig",
    "LossConfig",
    "MixedConfig",
    "Mode",
    "ModelConfig",
    "OptimConfig",
    "ReweightedConfig",
    "SandwichConfig",
    "SearchConfig",
    "SpaceConfig",
    "TrainConfig",
    "config_from_dict",
    "config_to_yaml",
    "load_config",
    "save_config",
]
