from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todm.errors import UserError
from todm.search.front import Point, SearchResult, choose, hypervolume, knee, pareto_front
from todm.space.spec import SubnetSpec

NAMES = ("wer", "params")


def point(params: float, wer: float) -> Point:
    spec = SubnetSpec(layers=(0,), widths={"ffn_dim": (max(1, int(params)),)}, mode="offline")
    return Point(spec=spec, figures={"wer": wer, "params": params})


values = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), min_size=1, max_size=25)
cubes = st.lists(st.tuples(*(st.integers(0, 7),) * 3), min_size=1, max_size=8)


@given(values)
def test_front_is_exactly_the_undominated_values(pairs: list[tuple[int, int]]) -> None:
    points = [point(params, wer) for params, wer in pairs]
    expected = {
        (p, w) for p, w in pairs if not any((q <= p and v <= w) and (q, v) != (p, w) for q, v in pairs)
    }
    front = pareto_front(points, NAMES)
    assert len(front) == len(expected)
    assert {(p.params, p.wer) for p in front} == expected
    assert [p.params for p in front] == sorted(p.params for p in front)


@given(cubes)
def test_front_of_three_objectives(triples: list[tuple[int, int, int]]) -> None:
    names = ("a", "b", "c")
    spec = SubnetSpec(layers=(0,), widths={"ffn_dim": (1,)}, mode="offline")
    points = [Point(spec=spec, figures=dict(zip(names, map(float, t), strict=True))) for t in triples]
    expected = {
        t
        for t in triples
        if not any(u != t and all(x <= y for x, y in zip(u, t, strict=True)) for u in triples)
    }
    assert sorted(p.values(names) for p in pareto_front(points, names)) == sorted(expected)


@given(values)
def test_hypervolume_counts_the_dominated_unit_squares(pairs: list[tuple[int, int]]) -> None:
    squares = sum(any(p <= x and w <= y for p, w in pairs) for x in range(50) for y in range(30))
    assert hypervolume([(float(p), float(w)) for p, w in pairs], (50.0, 30.0)) == squares


@given(cubes)
def test_hypervolume_counts_the_dominated_unit_cubes(triples: list[tuple[int, int, int]]) -> None:
    grid = [(x, y, z) for x in range(6) for y in range(6) for z in range(6)]
    cubes = sum(any(all(a <= b for a, b in zip(t, g, strict=True)) for t in triples) for g in grid)
    assert hypervolume([tuple(map(float, t)) for t in triples], (6.0, 6.0, 6.0)) == cubes


def test_knee_is_where_more_parameters_stop_paying() -> None:
    front = [point(100, 10.0), point(150, 3.0), point(300, 2.5), point(500, 2.0)]
    assert knee(front, NAMES) is front[1]
    scaled = [point(p.params * 1000, p.wer / 7) for p in front]
    assert knee(scaled, NAMES) is scaled[1]


def test_knee_of_fronts_without_one_is_the_best_wer() -> None:
    assert knee([], NAMES) is None
    single = [point(5, 1.0)]
    assert knee(single, NAMES) is single[0]
    bulging = [point(100, 10.0), point(400, 9.5), point(500, 2.0)]
    assert knee(bulging, NAMES) is bulging[-1]


def test_chosen_sizes_are_the_knee_and_the_ends() -> None:
    front = [point(100, 10.0), point(150, 3.0), point(300, 2.5), point(500, 2.0)]
    assert [p.chosen for p in choose(front, NAMES, 1)] == [(), ("knee",), (), ()]
    assert [p.chosen for p in choose(front, NAMES, 3)] == [("spread",), ("knee",), (), ("spread",)]
    assert choose([], NAMES, 4) == []
    assert [p.chosen for p in choose(front[:1], NAMES, 4)] == [("knee",)]


def test_what_was_found_survives_the_file(tmp_path: Path) -> None:
    best = Point(spec=point(4, 0).spec, figures={"wer": 0.5, "params": 4.0}, chosen=("knee", "watch"))
    found = SearchResult(
        objectives=NAMES, precision="int8", points=(point(3, 1.25), best), settings={"seed": 1}
    )
    found.save(tmp_path / "search" / "pareto.json")
    again = SearchResult.load(tmp_path / "search" / "pareto.json")
    assert again == found and again.chosen == (best,)


@pytest.mark.parametrize("text", ["{", "[{}]", '["x"]', "3", '{"objectives": ["wer"]}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "pareto.json").write_text(text)
    with pytest.raises(UserError, match=r"pareto\.json"):
        SearchResult.load(tmp_path / "pareto.json")
    with pytest.raises(UserError, match="todm search"):
        SearchResult.load(tmp_path / "none.json")
