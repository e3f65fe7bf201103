"""Run a whole search: every budget in every mode, and the choice of specs to extract."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Objectives, limits and effort of a search.

    Args:
        space: the search space.
        modes: modes to search, each on its own, so that nets of one do not displace nets of the other.
        objectives: objectives of the front, the most important first.
        limits: limits that hold for every spec.
        budgets: named targets with further limits, each searched on its own.
        context: config, tables and options that objectives are built from.
        evaluations: number of specs to evaluate, all modes and budgets together.
        population: specs per generation.
        sizes: specs to choose from the front of each mode when there are no budgets.
    """

    space: SearchSpace
    modes: tuple[Mode, ...]
    objectives: tuple[ObjectiveRef, ...]
    limits: tuple[Limit, ...]
    budgets: tuple[Budget, ...]
    context: ObjectiveContext
    evaluations: int
    population: int
    sizes: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return tuple(map(str, self.objectives))

    def objective_set(self, budget: Budget | None) -> ObjectiveSet:
        """Objectives with the limits of `budget`; points have the same figures for all budgets."""
        extra = [limit.objective for each in self.budgets for limit in each.limits]
        limits = (*self.limits, *(budget.limits if budget else ()))
        return ObjectiveSet(self.objectives, limits, self.context, extra)


@dataclass(frozen=True, kw_only=True)
class SearchHooks:
    """Optional parts of a search.

    Args:
        make_screen: makes a fresh screen for each search, or None.
        on_point: called with every new point.
    """

    make_screen: Callable[[], Screen | None] = lambda: None
    on_point: Callable[[Point], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a plan.

    Args:
        points: fronts of all modes and budgets, the chosen points marked.
        failures: one sentence for each budget whose limits no spec keeps.
    """

    points: tuple[Point, ...]
    failures: tuple[str, ...]


def run_search(
    plan: Plan, evaluate: Evaluate, *, seed: int, method: str = "nsga2", hooks: SearchHooks | None = None
) -> Outcome:
    """Search for every budget in every mode.

    Args:
        plan: objectives, limits and effort.
        evaluate: yields specs with their results of decoding.
        seed: seed of the sampler.
        method: a key of `SEARCHES`.
        hooks: screen and progress.
    """
    hooks = hooks or SearchHooks()
    budgets: Sequence[Budget | None] = plan.budgets or (None,)
    merged: dict[SubnetSpec, Point] = {}
    failures = []
    shares = _shares(plan.evaluations, len(budgets) * len(plan.modes))
    for budget in budgets:
        objectives = plan.objective_set(budget)
        points: list[Point] = []
        fronts: list[list[Point]] = []
        for mode in plan.modes:
            evaluations = Evaluations(
                objectives=objectives, evaluate=evaluate, evaluations=next(shares), on_point=hooks.on_point
            )
            _search_mode(plan, mode, evaluations, method=method, seed=seed, hooks=hooks)
            points += evaluations.points.values()
            kept = filter(objectives.keeps, evaluations.points.values())
            fronts.append(pareto_front(kept, objectives.names))
        if not any(fronts):
            failures.append(str(objectives.make_limit_error(points, budget.name if budget else None)))
            continue
        if budget is None:
            fronts = [choose(front, objectives.names, plan.sizes) for front in fronts]
        else:
            fronts = _mark_best(fronts, objectives.names, budget.name)
        for point in (point for front in fronts for point in front):
            known = merged.get(point.spec)
            merged[point.spec] = replace(point, chosen=(*known.chosen, *point.chosen)) if known else point
    order = {mode: index for index, mode in enumerate(plan.modes)}
    ranked = sorted(merged.values(), key=lambda p: (order[p.spec.mode], p.values(plan.names)[::-1], p.spec))
    return Outcome(points=tuple(ranked), failures=tuple(failures))


def _search_mode(
    plan: Plan, mode: Mode, evaluations: Evaluations, *, method: str, seed: int, hooks: SearchHooks
) -> None:
    """Spend `evaluations` on specs of one mode."""
    smallest = plan.space.min(mode)
    if evaluations.objectives.early_excess(smallest) > 0:
        # No spec of this mode keeps the limits; the smallest one is the nearest, for the error message.
        evaluations.restrict(1)
        evaluations([smallest])
    elif not evaluations.spent:
        SEARCHES[method](
            plan.space,
            mode,
            evaluations,
            population=plan.population,
            seed=seed,
            screen=hooks.make_screen(),
        )


def compare_methods(
    plan: Plan,
    evaluate: Evaluate,
    *,
    seeds: Sequence[int],
    methods: Sequence[str] = tuple(SEARCHES),
    hooks: SearchHooks | None = None,
) -> dict[str, Any]:
    """Compare the hypervolume of every method's front at the same number of evaluations, over seeds.

    Volumes are fractions of the box between the best and the worst figures of all methods, the worst moved
    out by a tenth so that the ends of a front count.

    Returns:
        values ready for JSON: by mode and method the volumes in the order of the seeds, their mean and their
        standard deviation.
    """
    if plan.budgets:
        raise UserError("--compare-seeds: compares methods within one set of limits; leave --budget out")
    hooks = hooks or SearchHooks()
    objectives = plan.objective_set(None)
    fronts: dict[tuple[Mode, str, int], list[Point]] = {}
    shares = list(_shares(plan.evaluations, len(plan.modes)))
    for seed in seeds:
        for method in methods:
            for mode, share in zip(plan.modes, shares, strict=True):
                evaluations = Evaluations(
                    objectives=objectives, evaluate=evaluate, evaluations=share, on_point=hooks.on_point
                )
                SEARCHES[method](
                    plan.space,
                    mode,
                    evaluations,
                    population=plan.population,
                    seed=seed,
                    screen=hooks.make_screen() if method == "nsga2" else None,
                )
                kept = [point for point in evaluations.points.values() if objectives.keeps(point)]
                fronts[mode, method, seed] = kept
    return {
        "objectives": list(objectives.names),
        "evaluations": plan.evaluations,
        "population": plan.population,
        "seeds": list(seeds),
        "modes": {mode: _compare_mode(fronts, objectives.names, mode) for mode in plan.modes},
    }


def _compare_mode(
    fronts: Mapping[tuple[Mode, str, int], Sequence[Point]], names: Sequence[str], mode: Mode
) -> dict[str, Any]:
    """Hypervolumes of one mode by method, with mean and standard deviation."""
    mine = {key[1:]: points for key, points in fronts.items() if key[0] == mode}
    every = [point.values(names) for points in mine.values() for point in points]
    if not every:
        raise UserError(f"--compare-seeds: no {mode} spec keeps the limits; relax them")
    volumes: dict[str, list[float]] = {}
    for (method, _), points in mine.items():
        volumes.setdefault(method, []).append(_share_of_box([p.values(names) for p in points], every))
    return {
        method: {
            "hypervolumes": values,
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        }
        for method, values in volumes.items()
    }


def _share_of_box(values: Iterable[tuple[float, ...]], every: Sequence[tuple[float, ...]]) -> float:
    lows = [min(column) for column in zip(*every, strict=True)]
    spans = [max(column) - low or 1.0 for column, low in zip(zip(*every, strict=True), lows, strict=True)]
    scaled = [
        tuple((v - low) / span for v, low, span in zip(value, lows, spans, strict=True)) for value in values
    ]
    return hypervolume(scaled, [1.1] * len(lows)) / 1.1 ** len(lows)


def _mark_best(fronts: Sequence[list[Point]], names: Sequence[str], name: str) -> list[list[Point]]:
    """Mark the point with the best first objective as the choice for the budget `name`."""
    best = min((point for front in fronts for point in front), key=lambda p: (p.values(names), p.spec))
    return [[replace(p, chosen=(*p.chosen, name)) if p is best else p for p in front] for front in fronts]


def _shares(total: int, count: int) -> Iterator[int]:
    share, rest = divmod(total, count)
    return iter([share + (index < rest) for index in range(count)])
