from __future__ import annotations

import itertools
import random
import statistics
from pathlib import Path

import pytest

pytest.importorskip("pymoo")

from tests.search.toy import SPACE, Evaluator, evaluate, make_objective_set, toy_wer
from todm.config import Mode
from todm.search.encoding import Encoding, shrink
from todm.search.front import Point, hypervolume, pareto_front
from todm.search.nsga2 import SEARCHES, first_specs, grid_specs, search_evolving
from todm.search.objective_set import Evaluations
from todm.space.cost import count_params
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

NAMES = ("wer", "params")


def search(
    folder: Path,
    evaluator: Evaluator,
    *limits: str,
    seed: int,
    mode: Mode = "offline",
    method: str = "nsga2",
    space: SearchSpace = SPACE,
    evaluations: int = 40,
) -> list[Point]:
    budget = Evaluations(
        objectives=make_objective_set(*limits), evaluate=evaluator.into(folder), evaluations=evaluations
    )
    SEARCHES[method](space, mode, budget, population=10, seed=seed)
    return list(budget.points.values())


def volume(points: list[Point]) -> float:
    worst = (toy_wer(SPACE.min()), float(params(SPACE.max())))
    return hypervolume([point.values(NAMES) for point in points], worst)


def params(spec: SubnetSpec) -> int:
    return make_objective_set().point(spec, {"wer": 0.0}).params


def test_same_seed_same_points_and_another_seed_others(tmp_path: Path) -> None:
    random.seed(1)
    first = search(tmp_path / "a", Evaluator(), seed=3)
    random.seed(2)
    assert search(tmp_path / "b", Evaluator(), seed=3) == first
    assert search(tmp_path / "c", Evaluator(), seed=4) != first


def test_spends_exactly_its_budget_and_starts_from_the_ends(tmp_path: Path) -> None:
    evaluator = Evaluator()
    points = search(tmp_path, evaluator, seed=0, mode="streaming")
    assert evaluator.calls == len(points) == 40
    specs = [point.spec for point in points]
    assert specs[:2] == [SPACE.min("streaming"), SPACE.max("streaming")]
    for spec in specs:
        SPACE.check(spec)
        assert spec.mode == "streaming"


def test_the_first_generation_is_spread_over_the_sizes() -> None:
    specs = first_specs(SPACE, "offline", 10, seed=0)
    assert len(set(specs)) == 10
    widths = sorted(sum(spec.width("ffn_dim")) for spec in specs)
    low, high = widths[0], widths[-1]
    assert max(b - a for a, b in itertools.pairwise(widths)) < 0.35 * (high - low)
    # More than there are specs of one width: random ones as well.
    assert len(set(first_specs(SPACE, "offline", 30, seed=0))) == 30


@pytest.mark.parametrize("limit", [2, 10, 27])
def test_an_interrupted_search_ends_where_it_would_have_ended(tmp_path: Path, limit: int) -> None:
    whole = search(tmp_path / "whole", Evaluator(), seed=5)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", Evaluator(limit), seed=5)
    rest = Evaluator()
    assert search(tmp_path / "parts", rest, seed=5) == whole
    assert rest.calls == 40 - limit
    again = Evaluator()
    assert search(tmp_path / "parts", again, seed=5) == whole
    assert again.calls == 0


@pytest.mark.parametrize(("baseline", "gain"), [("random", 1.02), ("grid", 1.005)])
def test_beats_the_baselines_at_equal_budget(tmp_path: Path, baseline: str, gain: float) -> None:
    gains = []
    for seed in range(10):
        evolved = search(tmp_path / f"e{seed}", Evaluator(), seed=seed)
        drawn = search(tmp_path / f"r{seed}", Evaluator(), seed=seed, method=baseline)
        assert len(drawn) == len(evolved)
        gains.append(volume(evolved) / volume(drawn))
    assert statistics.mean(gains) > gain
    assert sum(each > 1 for each in gains) >= 7


def test_evolving_improves_on_its_first_generation(tmp_path: Path) -> None:
    points = search(tmp_path, Evaluator(), seed=0, evaluations=80)
    assert volume(points) > 1.02 * volume(points[:10])


@pytest.mark.parametrize("method", list(SEARCHES))
def test_nothing_outside_the_early_limits_is_evaluated(tmp_path: Path, method: str) -> None:
    limit = params(SPACE.mid())
    points = search(tmp_path, Evaluator(), f"params <= {limit}", seed=0, method=method)
    assert len(points) == 40
    assert all(point.params <= limit for point in points)
    assert max(point.params for point in points) > 0.9 * limit, "the limit is made use of"


def test_limits_that_need_decoding_are_searched_for(tmp_path: Path) -> None:
    """Few of the specs keep to it; the search gets there and finds smaller ones than the seeds are."""
    limit = toy_wer(SPACE.max()) + 0.3
    points = search(tmp_path, Evaluator(), f"wer <= {limit}", seed=0, evaluations=120)
    inside = [point for point in points if point.wer <= limit]
    assert sum(p.wer <= limit for p in points[-40:]) > 20
    seeds = [point for point in points[:10] if point.wer <= limit]
    assert min(p.params for p in inside) < min(p.params for p in seeds)


def test_three_objectives(tmp_path: Path) -> None:
    names = ("wer", "params", "state")
    budget = Evaluations(objectives=make_objective_set(objectives=names), evaluate=evaluate, evaluations=30)
    search_evolving(SPACE, "streaming", budget, population=8, seed=0)
    assert {len(point.figures) for point in budget.points.values()} == {3}
    assert len(pareto_front(budget.points.values(), names)) > 5


@pytest.mark.parametrize("method", list(SEARCHES))
def test_a_space_smaller_than_the_budget_is_searched_whole(tmp_path: Path, method: str) -> None:
    space = SearchSpace(num_layers=2, depths=(1, 2), widths={"ffn_dim": (8, 16)}, modes=("offline",))
    points = search(tmp_path, Evaluator(), seed=0, space=space, method=method)
    assert len(points) == 2 + 4


@pytest.mark.parametrize("method", list(SEARCHES))
def test_a_space_of_one_spec(tmp_path: Path, method: str) -> None:
    space = SearchSpace(num_layers=2, depths=(2,), widths={"ffn_dim": (8,)}, modes=("offline",))
    assert [p.spec for p in search(tmp_path, Evaluator(), seed=0, space=space, method=method)] == [
        space.max()
    ]


def test_the_grid_covers_all_combinations_of_a_small_space() -> None:
    space = SearchSpace(num_layers=3, depths=(2, 3), widths={"ffn_dim": (8, 16, 24)}, modes=("offline",))
    assert len(set(grid_specs(space, "offline", 27))) == 9 + 27
    few = list(grid_specs(space, "offline", 5))
    assert len(few) == 10
    assert {space.uniform(d, {"ffn_dim": w}, "offline") for d in (2, 3) for w in (8, 24)} <= set(few)


def test_shrinking_ends_inside_or_at_the_smallest() -> None:
    encoding = Encoding(space=SPACE, mode="offline")
    model, vocab_size = make_objective_set().context.config.model, 40

    def excess(spec: SubnetSpec) -> float:
        return max(0.0, count_params(model, spec, vocab_size) - params(SPACE.mid()))

    rng = random.Random(0)
    genes = encoding.encode(SPACE.max())
    small = shrink(encoding, excess, genes, rng.choice)
    assert excess(encoding.decode(small)) == 0
    assert all(0 <= new <= old for new, old in zip(small, genes, strict=True))
    inside = encoding.encode(SPACE.min())
    assert shrink(encoding, excess, inside, rng.choice) == list(inside)
    assert not any(shrink(encoding, lambda _: 1.0, genes, rng.choice))
