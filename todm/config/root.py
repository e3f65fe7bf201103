"""`Config`: all sections of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from todm.config.augment import AugmentConfig
from todm.config.data import DataConfig
from todm.config.export import ExportConfig
from todm.config.model import ModelConfig, SpaceConfig
from todm.config.search import SearchConfig
from todm.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, from corpus to device."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values (dict, list, str, number), ready for YAML or JSON."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
