"""Objectives and limits of a search: compute the figures of a spec and check its limits. No torch here."""

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
    """The objectives and limits that specs are compared by.

    Args:
        objectives: objectives of the front, at least one, the most important first.
        limits: upper bounds that a spec must keep.
        context: config, tables and options that objectives are built from.
        extra: further figures to compute for every point.
    """

    def __init__(
        self,
        objectives: Sequence[ObjectiveRef],
        limits: Sequence[Limit],
        context: ObjectiveContext,
        extra: Sequence[ObjectiveRef] = (),
    ) -> None:
        self.limits = tuple(limits)
        self.context = context
        front = make_objectives(objectives, context)
        self.names = tuple(objective.name for objective in front)
        # Every table shows the number of parameters.
        every = [*objectives, *(limit.objective for limit in limits), *extra, ObjectiveRef(name="params")]
        self.by_name: Mapping[str, Objective] = {o.name: o for o in make_objectives(every, context)}

    @property
    def decodes(self) -> bool:
        """Whether any figure requires decoding."""
        return any(objective.decoded for objective in self.by_name.values())

    def point(self, spec: SubnetSpec, decoded: Mapping[str, Any]) -> Point:
        """Compute all figures of `spec`."""
        figures = {name: o.measure(spec, decoded) for name, o in self.by_name.items()}
        return Point(spec=spec, figures=figures)

    def early_excess(self, spec: SubnetSpec) -> float:
        """Sum of relative excesses over the limits that are computable without decoding.

        Monotone in depth and width, as those figures are.
        """
        early = (limit for limit in self.limits if not self.by_name[str(limit.objective)].decoded)
        return sum(limit.excess(self.by_name[str(limit.objective)].measure(spec, {})) for limit in early)

    def excesses(self, point: Point) -> list[float]:
        """Relative excess over each limit; 0 where it is kept."""
        return [limit.excess(point.figures[str(limit.objective)]) for limit in self.limits]

    def keeps(self, point: Point) -> bool:
        """Return whether the point keeps all limits."""
        return not any(self.excesses(point))

    def describe(self, point: Point) -> str:
        """Format a point: ``L4-192-off-3120 (offline): wer 1.20%, params 623 k``."""
        figures = (f"{name} {o.show(point.figures[name])}" for name, o in self.by_name.items())
        return f"{point.spec.name} ({point.spec.mode}): {', '.join(figures)}"

    def make_limit_error(self, points: Iterable[Point], budget: str | None) -> UserError:
        """Make the error for a search in which no evaluated spec keeps the limits."""
        nearest = min(points, key=lambda point: (sum(self.excesses(point)), point.spec))
        limits = ", ".join(
            f"{limit.objective.name} <= {self.by_name[str(limit.objective)].show(limit.bound)}"
            + (f" on {limit.objective.device}" if limit.objective.device else "")
            for limit in self.limits
        )
        name = f"budget {budget}: " if budget else ""
        return UserError(f"{name}no spec keeps {limits}; the nearest is {self.describe(nearest)}")


class Evaluations:
    """Evaluates distinct specs up to a maximum number.

    Args:
        objectives: convert results to points.
        evaluate: yields specs with their results, in any order; cached results are free.
        evaluations: maximum number of distinct specs, cached ones included, so that an interrupted search
            replays the cache and ends as it would have without the interruption.
        on_point: called with every new point, for a progress bar.
    """

    def __init__(
        self,
        *,
        objectives: ObjectiveSet,
        evaluate: Evaluate,
        evaluations: int,
        on_point: Callable[[Point], None] = lambda _: None,
    ) -> None:
        self.objectives = objectives
        self._evaluate = evaluate
        self._evaluations = evaluations
        self._on_point = on_point
        self.points: dict[SubnetSpec, Point] = {}

    @property
    def left(self) -> int:
        """Number of specs that may still be evaluated."""
        return self._evaluations - len(self.points)

    @property
    def spent(self) -> bool:
        """Whether the maximum number of evaluations is reached."""
        return self.left <= 0

    def restrict(self, evaluations: int) -> None:
        """Set the maximum number of evaluations."""
        self._evaluations = evaluations

    def __call__(self, specs: Sequence[SubnetSpec]) -> list[Point | None]:
        """Return the points of `specs` in order; None for a new spec beyond the maximum number."""
        new = [spec for spec in dict.fromkeys(specs) if spec not in self.points]
        new = new[: max(0, self.left)]
        fresh: dict[SubnetSpec, Point] = {}
        # Sorted, so that specs with common first layers follow each other and share their outputs.
        ordered = sorted(new)
        results = self._evaluate(ordered) if self.objectives.decodes else ((spec, {}) for spec in ordered)
        for spec, result in results:
            fresh[spec] = self.objectives.point(spec, result)
            self._on_point(fresh[spec])
        # In the order of the request, not of completion.
        self.points.update((spec, fresh[spec]) for spec in new)
        return [self.points.get(spec) for spec in specs]
