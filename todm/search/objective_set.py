"""Objectives and limits together: what a spec's figures are, and whether it may be shipped. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from todm.errors import UserError
from todm.search.front import Point
from todm.search.limits import Limit
from todm.search.objectives import Objective, ObjectiveContext, ObjectiveRef, make_objectives
from todm.space.spec import SubnetSpec

Evaluate = Callable[[Sequence[SubnetSpec]], Iterable[tuple[SubnetSpec, Mapping[str, Any]]]]


class ObjectiveSet:
    """What specs are compared by.

    Args:
        terms: objectives of the front, at least one, the most important first.
        limits: what a spec must keep to.
        setup: what objectives are built from.
        also: further figures that points shall have.
    """

    def __init__(
        self,
        terms: Sequence[ObjectiveRef],
        limits: Sequence[Limit],
        setup: ObjectiveContext,
        also: Sequence[ObjectiveRef] = (),
    ) -> None:
        self.limits = tuple(limits)
        self.setup = setup
        front = make_objectives(terms, setup)
        self.names = tuple(objective.name for objective in front)
        # The parameters name a size in every table, whatever else was asked for.
        every = [*terms, *(limit.term for limit in limits), *also, ObjectiveRef(name="params")]
        self.objectives: Mapping[str, Objective] = {o.name: o for o in make_objectives(every, setup)}

    @property
    def decodes(self) -> bool:
        """Whether any figure comes from decoding."""
        return any(objective.decoded for objective in self.objectives.values())

    def point(self, spec: SubnetSpec, decoded: Mapping[str, Any]) -> Point:
        """All figures of `spec`."""
        figures = {name: o.measure(spec, decoded) for name, o in self.objectives.items()}
        return Point(spec=spec, figures=figures)

    def early_excess(self, spec: SubnetSpec) -> float:
        """By how much `spec` breaks the limits that are known without decoding, in shares, summed up.

        Grows with every layer and every unit of `spec`, as those figures do.
        """
        early = (limit for limit in self.limits if not self.objectives[str(limit.term)].decoded)
        return sum(limit.excess(self.objectives[str(limit.term)].measure(spec, {})) for limit in early)

    def excesses(self, point: Point) -> list[float]:
        """By how much each limit is broken, as a share of it; 0 where it is kept."""
        return [limit.excess(point.figures[str(limit.term)]) for limit in self.limits]

    def keeps(self, point: Point) -> bool:
        """Whether all limits are kept."""
        return not any(self.excesses(point))

    def describe(self, point: Point) -> str:
        """``L4-192-off-3120 (offline): wer 1.20%, params 623 k``."""
        figures = (f"{name} {o.show(point.figures[name])}" for name, o in self.objectives.items())
        return f"{point.spec.name} ({point.spec.mode}): {', '.join(figures)}"

    def nothing_keeps(self, points: Iterable[Point], budget: str | None) -> UserError:
        """The error to raise when none of the specs that were looked at keeps to the limits."""
        nearest = min(points, key=lambda point: (sum(self.excesses(point)), point.spec))
        wanted = ", ".join(
            f"{limit.term.name} <= {self.objectives[str(limit.term)].show(limit.bound)}"
            + (f" on {limit.term.device}" if limit.term.device else "")
            for limit in self.limits
        )
        name = f"budget {budget}: " if budget else ""
        return UserError(f"{name}no spec keeps to {wanted}; the nearest is {self.describe(nearest)}")


class Evaluations:
    """Evaluates specs, each once, until so many were evaluated.

    Args:
        judge: turns results into points.
        evaluate: specs to their results, in any order, those known already for nothing.
        evaluations: distinct specs at most. Those that a cache knows count too: a search that was stopped
            replays its way through the cache and ends where it would have ended.
        on_point: called with every new point, for a progress bar.
    """

    def __init__(
        self,
        *,
        judge: ObjectiveSet,
        evaluate: Evaluate,
        evaluations: int,
        on_point: Callable[[Point], None] = lambda _: None,
    ) -> None:
        self.judge = judge
        self._evaluate = evaluate
        self._evaluations = evaluations
        self._on_point = on_point
        self.points: dict[SubnetSpec, Point] = {}

    @property
    def left(self) -> int:
        """Specs that may still be evaluated."""
        return self._evaluations - len(self.points)

    @property
    def spent(self) -> bool:
        """Whether only specs seen before can still be asked for."""
        return self.left <= 0

    def __call__(self, specs: Sequence[SubnetSpec]) -> list[Point | None]:
        """Their points, in order; None for a spec that is new when the budget is spent."""
        new = [spec for spec in dict.fromkeys(specs) if spec not in self.points]
        new = new[: max(0, self.left)]
        fresh: dict[SubnetSpec, Point] = {}
        # Sorted, so that specs with the same first layers come one after the other and share them.
        ordered = sorted(new)
        results = self._evaluate(ordered) if self.judge.decodes else ((spec, {}) for spec in ordered)
        for spec, result in results:
            fresh[spec] = self.judge.point(spec, result)
            self._on_point(fresh[spec])
        # In the order they were asked for, whatever order they came in.
        self.points.update((spec, fresh[spec]) for spec in new)
        return [self.points.get(spec) for spec in specs]
