from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todm.errors import UserError
from todm.search.front import Point, hypervolume, knee, load_points, pareto_front, save_points
from todm.space.spec import SubnetSpec


def point(params: int, wer: float) -> Point:
    spec = SubnetSpec(layers=(0,), ffn_dims=(params,), mode="offline")
    return Point(spec=spec, wer=wer, params=params)


values = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), min_size=1, max_size=25)


@given(values)
def test_front_is_exactly_the_undominated_values(pairs: list[tuple[int, int]]) -> None:
    points = [point(params, wer) for params, wer in pairs]
    expected = {
        (p, w) for p, w in pairs if not any((q <= p and v <= w) and (q, v) != (p, w) for q, v in pairs)
    }
    front = pareto_front(points)
    assert {(p.params, p.wer) for p in front} == expected
    assert [p.params for p in front] == sorted(p.params for p in front)


@given(values)
def test_hypervolume_counts_the_dominated_unit_squares(pairs: list[tuple[int, int]]) -> None:
    points = [point(params, wer) for params, wer in pairs]
    squares = sum(any(p <= x and w <= y for p, w in pairs) for x in range(50) for y in range(30))
    assert hypervolume(points, wer=30, params=50) == squares


def test_knee_is_where_more_parameters_stop_paying() -> None:
    front = [point(100, 10.0), point(150, 3.0), point(300, 2.5), point(500, 2.0)]
    assert knee(front) is front[1]
    scaled = [point(p.params * 1000, p.wer / 7) for p in front]
    assert knee(scaled) is scaled[1]


def test_knee_of_fronts_without_one_is_the_best_wer() -> None:
    assert knee([]) is None
    single = [point(5, 1.0)]
    assert knee(single) is single[0]
    bulging = [point(100, 10.0), point(400, 9.5), point(500, 2.0)]
    assert knee(bulging) is bulging[-1]


def test_points_survive_the_file(tmp_path: Path) -> None:
    points = [point(3, 1.25), Point(spec=point(4, 0).spec, wer=0.5, params=4, knee=True)]
    save_points(tmp_path / "search" / "pareto.json", points)
    assert load_points(tmp_path / "search" / "pareto.json") == points


@pytest.mark.parametrize("text", ["{", "[{}]", '["x"]', "3"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "pareto.json").write_text(text)
    with pytest.raises(UserError, match=r"pareto\.json"):
        load_points(tmp_path / "pareto.json")
    with pytest.raises(UserError, match="todm search"):
        load_points(tmp_path / "none.json")
