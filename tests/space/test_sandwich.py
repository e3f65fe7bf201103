from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from todm.config import SandwichConfig
from todm.space.sandwich import draw_specs
from todm.space.space import SearchSpace

SPACE = SearchSpace(
    num_layers=4, depths=(2, 3, 4), widths={"ffn_dim": (8, 16, 32)}, modes=("offline", "streaming")
)


def test_same_seed_and_step_same_specs() -> None:
    config = SandwichConfig(num_corners=2, num_random=3)
    for step in range(20):
        assert draw_specs(SPACE, config, seed=7, step=step) == draw_specs(SPACE, config, seed=7, step=step)
    other_seed = [draw_specs(SPACE, config, seed=8, step=step) for step in range(20)]
    assert other_seed != [draw_specs(SPACE, config, seed=7, step=step) for step in range(20)]
    assert len({draw_specs(SPACE, config, seed=7, step=step) for step in range(20)}) > 15


def test_teacher_first_and_no_spec_twice() -> None:
    config = SandwichConfig(num_corners=3, num_random=6)
    for step in range(50):
        specs = draw_specs(SPACE, config, seed=0, step=step)
        assert specs[0] == SPACE.max()
        assert len(set(specs)) == len(specs) <= 10
        assert all(SPACE.contains(spec) for spec in specs)


@pytest.mark.parametrize("num_corners", [1, 2, 3, 9])
def test_corners_take_turns(num_corners: int) -> None:
    config = SandwichConfig(num_corners=num_corners, num_random=0)
    corners = list(SPACE.corners())
    seen: Counter[object] = Counter()
    for step in range(3 * len(corners)):
        specs = draw_specs(SPACE, config, seed=0, step=step)[1:]
        assert len(specs) == min(num_corners, len(corners))
        seen.update(specs)
    assert set(seen) == set(corners)
    assert len(set(seen.values())) == 1


def test_random_specs_are_drawn_anew() -> None:
    config = SandwichConfig(num_corners=0, num_random=1)
    drawn = {draw_specs(SPACE, config, seed=0, step=step)[-1] for step in range(40)}
    assert len(drawn) > 20


def test_a_space_of_one_spec_gives_the_teacher_alone() -> None:
    space = SearchSpace(num_layers=2, depths=(2,), widths={"ffn_dim": (8,)}, modes=("streaming",))
    config = SandwichConfig(num_corners=2, num_random=2)
    assert draw_specs(space, config, seed=0, step=3) == (space.max(),)


@pytest.mark.parametrize("num_students", [1, 2, 3])
def test_students_in_turn_come_as_often_as_all_together(num_students: int) -> None:
    config = SandwichConfig(num_corners=1, num_random=2, num_students=num_students)
    corners = list(SPACE.corners())
    num_steps = 3 * len(corners) * 3  # every corner thrice for each student
    seen: Counter[object] = Counter()
    for step in range(num_steps):
        specs = draw_specs(SPACE, config, seed=0, step=step)
        assert specs[0] == SPACE.max() and len(specs) <= 1 + num_students
        seen.update(specs[1:])
    for corner in corners:
        assert seen[corner] >= num_steps * num_students // 3 // len(corners)
    assert len(seen) > 4 * len(corners)


def test_all_students_are_what_no_limit_gives() -> None:
    for step in range(10):
        limited = draw_specs(SPACE, SandwichConfig(num_corners=2, num_students=9), seed=1, step=step)
        assert limited == draw_specs(SPACE, SandwichConfig(num_corners=2), seed=1, step=step)


def test_every_third_step_has_the_students_next_in_turn() -> None:
    corners = SandwichConfig(num_corners=2, num_random=0)
    for step in range(12):
        specs = draw_specs(SPACE, replace(corners, student_interval=3), seed=0, step=step)
        students = draw_specs(SPACE, corners, seed=0, step=step // 3)
        assert specs == ((SPACE.max(),) if step % 3 else students)
    config = SandwichConfig(num_corners=0, num_random=1, student_interval=3)
    assert len({draw_specs(SPACE, config, seed=0, step=step)[-1] for step in range(0, 90, 3)}) > 20
