from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from todm.config import Mode
from todm.search.cache import EvalCache
from todm.search.front import Point, hypervolume, pareto_front
from todm.search.nsga2 import Budget, search_at_random, search_evolving
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

pytest.importorskip("pymoo")

SPACE = SearchSpace(
    num_layers=12, depths=(6, 8, 10, 12), ffn_dims=(64, 128, 192, 256), modes=("offline", "streaming")
)
# How much width helps in each layer: a search has to find out.
USE = (1.0, 0.1, 0.2, 2.0, 0.1, 0.3, 0.1, 1.5, 0.2, 0.1, 1.0, 0.6)


def count_params(spec: SubnetSpec) -> int:
    return 50_000 + sum(40_000 + 288 * dim for dim in spec.ffn_dims)


def toy_wer(spec: SubnetSpec) -> dict[str, Any]:
    gain = sum(USE[layer] * dim**0.5 for layer, dim in zip(spec.layers, spec.ffn_dims, strict=True))
    return {"wer": 400.0 / (20.0 + gain) + (1.0 if spec.mode == "streaming" else 0.0)}


class Evaluator:
    """Counts calls, and stops like a killed process after `limit` of them."""

    def __init__(self, limit: int | None = None) -> None:
        self.calls = 0
        self.limit = limit

    def __call__(self, spec: SubnetSpec) -> dict[str, Any]:
        if self.limit is not None and self.calls >= self.limit:
            raise KeyboardInterrupt
        self.calls += 1
        return toy_wer(spec)


def make_budget(folder: Path, evaluator: Evaluator, evaluations: int = 40) -> Budget:
    return Budget(
        evaluate=evaluator,
        count_params=count_params,
        cache=EvalCache(folder / "cache.jsonl"),
        evaluations=evaluations,
    )


def evolve(folder: Path, evaluator: Evaluator, *, seed: int, mode: Mode = "offline") -> list[Point]:
    budget = make_budget(folder, evaluator)
    search_evolving(SPACE, mode, budget, population=10, seed=seed)
    return list(budget.points.values())


def test_same_seed_same_points_and_another_seed_others(tmp_path: Path) -> None:
    random.seed(1)
    first = evolve(tmp_path / "a", Evaluator(), seed=3)
    random.seed(2)
    assert evolve(tmp_path / "b", Evaluator(), seed=3) == first
    assert evolve(tmp_path / "c", Evaluator(), seed=4) != first


def test_spends_exactly_its_budget_and_starts_from_the_named_sizes(tmp_path: Path) -> None:
    evaluator = Evaluator()
    points = evolve(tmp_path, evaluator, seed=0, mode="streaming")
    assert evaluator.calls == len(points) == 40
    specs = [point.spec for point in points]
    assert specs[:3] == [SPACE.min("streaming"), SPACE.mid("streaming"), SPACE.max("streaming")]
    for spec in specs:
        SPACE.check(spec)
        assert spec.mode == "streaming"


@pytest.mark.parametrize("limit", [2, 10, 27])
def test_an_interrupted_search_ends_where_it_would_have_ended(tmp_path: Path, limit: int) -> None:
    whole = evolve(tmp_path / "whole", Evaluator(), seed=5)
    with pytest.raises(KeyboardInterrupt):
        evolve(tmp_path / "parts", Evaluator(limit), seed=5)
    rest = Evaluator()
    assert evolve(tmp_path / "parts", rest, seed=5) == whole
    assert rest.calls == 40 - limit
    again = Evaluator()
    assert evolve(tmp_path / "parts", again, seed=5) == whole
    assert again.calls == 0


def test_beats_random_at_equal_budget(tmp_path: Path) -> None:
    worst_wer, most_params = toy_wer(SPACE.min())["wer"], count_params(SPACE.max())
    gains = []
    for seed in range(10):
        evolved = evolve(tmp_path / f"e{seed}", Evaluator(), seed=seed)
        budget = make_budget(tmp_path / f"r{seed}", Evaluator())
        search_at_random(SPACE, "offline", budget, seed=seed)
        assert len(budget.points) == len(evolved)
        drawn = hypervolume(budget.points.values(), wer=worst_wer, params=most_params)
        gains.append(hypervolume(evolved, wer=worst_wer, params=most_params) / drawn)
    assert statistics.mean(gains) > 1.02
    assert sum(gain > 1 for gain in gains) >= 7


def test_evolving_improves_on_its_first_generation(tmp_path: Path) -> None:
    corner = {"wer": toy_wer(SPACE.min())["wer"], "params": count_params(SPACE.max())}
    points = evolve(tmp_path, Evaluator(), seed=0)
    assert hypervolume(points, **corner) > 1.05 * hypervolume(points[:10], **corner)


def test_a_space_smaller_than_the_budget_is_searched_whole(tmp_path: Path) -> None:
    space = SearchSpace(num_layers=2, depths=(1, 2), ffn_dims=(8, 16), modes=("offline",))
    budget = make_budget(tmp_path, Evaluator(), evaluations=50)
    search_evolving(space, "offline", budget, population=4, seed=0)
    assert len(budget.points) == 2 + 4
    drawn = make_budget(tmp_path / "random", Evaluator(), evaluations=50)
    search_at_random(space, "offline", drawn, seed=0)
    assert set(drawn.points) == set(budget.points)


def test_a_space_of_one_spec(tmp_path: Path) -> None:
    space = SearchSpace(num_layers=2, depths=(2,), ffn_dims=(8,), modes=("offline",))
    budget = make_budget(tmp_path, Evaluator())
    search_evolving(space, "offline", budget, population=4, seed=0)
    assert [p.spec for p in pareto_front(budget.points.values())] == [space.max()]
