from __future__ import annotations

import dataclasses

import pytest

from tests.search.toy import CONTEXT, SPACE, evaluate, make_objective_set, toy_wer
from todm.errors import UserError
from todm.search.limits import parse_limit, parse_objective
from todm.search.objective_set import Evaluations, ObjectiveSet
from todm.search.objectives import FAMILIES, find_family, make_objectives
from todm.search.objectives.base import ObjectiveRef
from todm.space.cost import count_macs
from todm.space.spec import SubnetSpec


def test_figures_of_objectives_and_limits_and_the_parameters() -> None:
    objectives = make_objective_set("macs <= 1", objectives=("wer", "state"))
    spec = SPACE.min("streaming")
    point = objectives.point(spec, {"wer": 3.0})
    assert list(point.figures) == ["wer", "state", "macs", "params"]
    assert point.wer == 3.0 and point.figures["state"] > 0
    macs = count_macs(CONTEXT.config.model, spec, CONTEXT.vocab_size)
    assert point.figures["macs"] == macs
    assert objectives.excesses(point) == [pytest.approx(macs - 1)]
    assert objectives.early_excess(spec) == pytest.approx(macs - 1) and not objectives.keeps(point)


def test_limits_that_need_decoding_are_not_early() -> None:
    objectives = make_objective_set("wer <= 1")
    assert objectives.early_excess(SPACE.max()) == 0
    assert objectives.excesses(objectives.point(SPACE.max(), {"wer": 3.0})) == [2.0]


def test_every_early_objective_grows_with_the_spec() -> None:
    """What lets a search shrink specs into the limits."""
    names = [
        name for name, family in FAMILIES.items() if not family.on_device and name not in ("wer", "size")
    ]
    assert names == ["params", "macs", "state"]
    objectives = make_objectives([ObjectiveRef(name=name) for name in names], CONTEXT)
    for mode in SPACE.modes:
        base = SPACE.uniform(8, {"ffn_dim": 128}, mode)
        wider = dataclasses.replace(base, widths={"ffn_dim": (192, *base.width("ffn_dim")[1:])})
        deeper = SPACE.uniform(10, {"ffn_dim": 128}, mode)
        for objective in objectives:
            assert not objective.decoded
            value = objective.measure(base, {})
            assert value <= objective.measure(wider, {})
            assert value <= objective.measure(deeper, {})


def test_an_unknown_device_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no table of the device pi4; no device is known yet"):
        ObjectiveSet([parse_objective("wer"), parse_objective("rtf on pi4")], [], CONTEXT)
    with pytest.raises(UserError, match="not an objective"):
        find_family(ObjectiveRef(name="speed"))


def test_the_nearest_spec_is_named_when_none_keeps_the_limits() -> None:
    objectives = make_objective_set("wer <= 2", "params <= 1 M")
    points = [
        objectives.point(spec, {"wer": toy_wer(spec)}) for spec in (SPACE.min(), SPACE.mid(), SPACE.max())
    ]
    error = str(objectives.make_limit_error(points, "watch"))
    assert error.startswith("budget watch: no spec keeps wer <= 2.00%, params <= 1 M; the nearest is ")
    nearest = min(points, key=lambda point: sum(objectives.excesses(point)))
    assert objectives.describe(nearest) in error and nearest.spec.name in error


def test_a_budget_keeps_the_order_and_asks_for_each_spec_once() -> None:
    asked: list[SubnetSpec] = []

    def count(specs):  # type: ignore[no-untyped-def]
        asked.extend(specs)
        return evaluate(specs)

    budget = Evaluations(objectives=make_objective_set(), evaluate=count, evaluations=3)
    one, two, three, four = (SPACE.uniform(depth, {"ffn_dim": 64}, "offline") for depth in (12, 6, 10, 8))
    points = budget([one, two, one])
    assert [point.spec for point in points if point] == [one, two, one]
    assert budget([two, three, four])[2] is None and budget.spent
    assert list(budget.points) == [one, two, three]
    assert sorted(asked) == sorted({one, two, three}) and len(asked) == 3


def test_nothing_is_decoded_when_nothing_needs_it() -> None:
    def refuse(specs):  # type: ignore[no-untyped-def]
        raise AssertionError(specs)

    objectives = make_objective_set(objectives=("params", "macs"))
    budget = Evaluations(objectives=objectives, evaluate=refuse, evaluations=3)
    assert budget([SPACE.min()])[0] is not None


def test_limits_print_as_they_are_written() -> None:
    assert str(parse_limit("rtf <= 0.1 on pi4").objective) == "rtf on pi4"
