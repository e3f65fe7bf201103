"""A search that needs no net: specs whose word error rate is a formula."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from todm.config import Config, ModelConfig, SpaceConfig
from todm.search.cache import EvalCache
from todm.search.limits import parse_limits, parse_objective
from todm.search.objective_set import ObjectiveSet
from todm.search.objectives import ObjectiveContext
from todm.search.workers import Workers
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

CONFIG = Config(
    model=ModelConfig(num_layers=12),
    space=SpaceConfig(depths=(6, 8, 10, 12), widths={"ffn_dim": (64, 128, 192, 256)}),
)
SPACE = SearchSpace.from_config(CONFIG)
CONTEXT = ObjectiveContext(config=CONFIG, vocab_size=40, precision="fp32")
# How much width helps in each layer: a search has to find out.
USE = (1.0, 0.1, 0.2, 2.0, 0.1, 0.3, 0.1, 1.5, 0.2, 0.1, 1.0, 0.6)


def toy_wer(spec: SubnetSpec) -> float:
    gain = sum(USE[layer] * dim**0.5 for layer, dim in zip(spec.layers, spec.width("ffn_dim"), strict=True))
    return 400.0 / (20.0 + gain) + (1.0 if spec.mode == "streaming" else 0.0)


def make_objective_set(*limits: str, objectives: Sequence[str] = ("wer", "params")) -> ObjectiveSet:
    return ObjectiveSet([parse_objective(text) for text in objectives], parse_limits(limits), CONTEXT)


class Evaluator:
    """Counts calls, and stops like a killed process after `limit` of them."""

    def __init__(self, limit: int | None = None) -> None:
        self.calls = 0
        self.limit = limit

    def __call__(self, spec: SubnetSpec) -> dict[str, Any]:
        if self.limit is not None and self.calls >= self.limit:
            raise KeyboardInterrupt
        self.calls += 1
        return {"wer": toy_wer(spec)}

    def into(self, folder: Path) -> Workers:
        """This evaluator with a cache in `folder`."""
        return Workers(lambda: self, EvalCache(folder / "cache.jsonl"))


def evaluate(specs: Sequence[SubnetSpec]) -> Iterator[tuple[SubnetSpec, Mapping[str, Any]]]:
    """Without a cache."""
    for spec in specs:
        yield spec, {"wer": toy_wer(spec)}


def load_toy() -> Evaluator:
    """For workers, which have to import it."""
    return Evaluator()


def load_nothing() -> Evaluator:
    """What loading looks like when a file is missing."""
    raise FileNotFoundError("no such net")
