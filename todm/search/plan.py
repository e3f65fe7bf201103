"""A whole search: every budget and every mode in turn, what is chosen, and methods side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from todm.config import Mode
from todm.errors import UserError
from todm.search.front import Point, choose, hypervolume, pareto_front
from todm.search.limits import Budget, Limit
from todm.search.nsga2 import SEARCHES
from todm.search.objective_set import Evaluate, Evaluations, ObjectiveSet
from todm.search.objectives import ObjectiveContext, ObjectiveRef
from todm.search.screen import Screen
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is searched for.

    Args:
        space: what is elastic.
        modes: that are searched, each on its own: they serve different uses, and the nets of one are not to
            be driven out by nets of the other.
        terms: objectives.
        limits: that hold for every spec.
        budgets: devices or uses with further limits, each searched for on its own.
        setup: what objectives are built from.
        evaluations: of all modes and budgets together.
        population: of a generation.
        sizes: specs chosen from the front of each mode, where there are no budgets.
    """

    space: SearchSpace
    modes: tuple[Mode, ...]
    terms: tuple[ObjectiveRef, ...]
    limits: tuple[Limit, ...]
    budgets: tuple[Budget, ...]
    setup: ObjectiveContext
    evaluations: int
    population: int
    sizes: int

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives' names."""
        return tuple(map(str, self.terms))

    def judge(self, budget: Budget | None) -> ObjectiveSet:
        """With the limits of `budget`; the figures are the same ones for all budgets."""
        also = [limit.term for each in self.budgets for limit in each.limits]
        limits = (*self.limits, *(budget.limits if budget else ()))
        return ObjectiveSet(self.terms, limits, self.setup, also)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a plan.

    Args:
        points: fronts of all modes and budgets, with what is chosen.
        failures: one sentence for each budget that nothing keeps to.
    """

    points: tuple[Point, ...]
    failures: tuple[str, ...]


def run_search(
    plan: Plan,
    evaluate: Evaluate,
    *,
    seed: int,
    method: str = "nsga2",
    make_screen: Callable[[], Screen | None] = lambda: None,
    on_point: Callable[[Point], None] = lambda _: None,
) -> Outcome:
    """Search for every budget in every mode.

    Args:
        plan: what for.
        evaluate: specs to results of decoding.
        seed: of the sampler.
        method: a key of `SEARCHES`.
        make_screen: a fresh screen for each search, or None.
        on_point: called with every new point.
    """
    wanted: Sequence[Budget | None] = plan.budgets or (None,)
    found: dict[SubnetSpec, Point] = {}
    failures = []
    shares = _shares(plan.evaluations, len(wanted) * len(plan.modes))
    for each in wanted:
        judge = plan.judge(each)
        points: list[Point] = []
        fronts: list[list[Point]] = []
        for mode in plan.modes:
            share = next(shares)
            smallest = plan.space.min(mode)
            hopeless = judge.early_excess(smallest) > 0
            budget = Evaluations(
                judge=judge, evaluate=evaluate, evaluations=1 if hopeless else share, on_point=on_point
            )
            if hopeless:  # evaluated nevertheless: it is the nearest that there is
                budget([smallest])
            elif share:
                SEARCHES[method](
                    plan.space,
                    mode,
                    budget,
                    population=plan.population,
                    seed=seed,
                    screen=make_screen(),
                )
            points += budget.points.values()
            fronts.append(pareto_front(filter(judge.keeps, budget.points.values()), judge.names))
        if not any(fronts):
            failures.append(str(judge.nothing_keeps(points, each.name if each else None)))
            continue
        if each is None:
            fronts = [choose(front, judge.names, plan.sizes) for front in fronts]
        else:
            best = min(
                (point for front in fronts for point in front), key=lambda p: (p.values(judge.names), p.spec)
            )
            fronts = [[_mark(p, each.name) if p is best else p for p in front] for front in fronts]
        for point in (point for front in fronts for point in front):
            before = found.get(point.spec)
            found[point.spec] = replace(point, chosen=(*before.chosen, *point.chosen)) if before else point
    order = {mode: index for index, mode in enumerate(plan.modes)}
    ranked = sorted(found.values(), key=lambda p: (order[p.spec.mode], p.values(plan.names)[::-1], p.spec))
    return Outcome(points=tuple(ranked), failures=tuple(failures))


def compare_methods(
    plan: Plan,
    evaluate: Evaluate,
    *,
    seeds: Sequence[int],
    methods: Sequence[str] = tuple(SEARCHES),
    make_screen: Callable[[], Screen | None] = lambda: None,
    on_point: Callable[[Point], None] = lambda _: None,
) -> dict[str, Any]:
    """The hypervolume of every method's front at the same budget, for several seeds.

    Volumes are shares of the box between the best and the worst figure of all that any method saw, the worst
    moved out by a tenth so that the ends of a front count.

    Returns:
        Values ready for JSON: by mode and method the volumes in the order of the seeds, their mean and their
        standard deviation.
    """
    if plan.budgets:
        raise UserError("--compare-seeds: compares methods within one set of limits; leave --budget out")
    judge = plan.judge(None)
    seen: dict[tuple[Mode, str, int], list[Point]] = {}
    shares = list(_shares(plan.evaluations, len(plan.modes)))
    for seed in seeds:
        for method in methods:
            for mode, share in zip(plan.modes, shares, strict=True):
                budget = Evaluations(judge=judge, evaluate=evaluate, evaluations=share, on_point=on_point)
                SEARCHES[method](
                    plan.space,
                    mode,
                    budget,
                    population=plan.population,
                    seed=seed,
                    screen=make_screen() if method == "nsga2" else None,
                )
                seen[mode, method, seed] = [p for p in budget.points.values() if judge.keeps(p)]
    result: dict[str, Any] = {
        "objectives": list(judge.names),
        "evaluations": plan.evaluations,
        "population": plan.population,
        "seeds": list(seeds),
        "modes": {},
    }
    for mode in plan.modes:
        every = [p.values(judge.names) for (m, _, _), points in seen.items() if m == mode for p in points]
        if not every:
            raise UserError(f"--compare-seeds: no {mode} spec keeps to the limits; loosen them")
        volumes = {
            method: [
                _share_of_box([p.values(judge.names) for p in seen[mode, method, seed]], every)
                for seed in seeds
            ]
            for method in methods
        }
        result["modes"][mode] = {
            method: {
                "hypervolumes": values,
                "mean": statistics.mean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            }
            for method, values in volumes.items()
        }
    return result


def _share_of_box(values: Iterable[tuple[float, ...]], every: Sequence[tuple[float, ...]]) -> float:
    lows = [min(column) for column in zip(*every, strict=True)]
    spans = [max(column) - low or 1.0 for column, low in zip(zip(*every, strict=True), lows, strict=True)]
    scaled = [
        tuple((v - low) / span for v, low, span in zip(value, lows, spans, strict=True)) for value in values
    ]
    return hypervolume(scaled, [1.1] * len(lows)) / 1.1 ** len(lows)


def _mark(point: Point, name: str) -> Point:
    return replace(point, chosen=(*point.chosen, name))


def _shares(total: int, count: int) -> Iterator[int]:
    share, rest = divmod(total, count)
    return iter([share + (index < rest) for index in range(count)])
