"""Proxy screening: rank many children by a cheap loss and evaluate only the best.

The proxy is used while its rank correlation (Spearman) with the WER of the evaluated specs is high enough,
and only after a minimum number of evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from todm.search.front import Point, pareto_front
from todm.search.objective_set import Evaluate, Evaluations
from todm.space.spec import SubnetSpec

OVERSAMPLING = 4
MIN_POINTS = 10


class Screen:
    """Ranks children by the proxy instead of the word error rate.

    Args:
        evaluate: yields specs with results that hold a key ``loss``.
        threshold: minimum rank correlation at which the proxy is used, 0 to 1.
        report: called with a line of text when the proxy is switched on or off.
    """

    def __init__(
        self, evaluate: Evaluate, threshold: float, report: Callable[[str], None] = lambda _: None
    ) -> None:
        self._evaluate = evaluate
        self._threshold = threshold
        self._report = report
        self._trusted: bool | None = None
        self._proxies: dict[SubnetSpec, float] = {}

    def oversampling(self, budget: Evaluations) -> int:
        """Number of children to draw per evaluation: 1 while the proxy is not used."""
        points = list(budget.points.values())
        if "wer" not in budget.objectives.names or len(points) < MIN_POINTS:
            return 1
        proxies = self.proxies([point.spec for point in points])
        correlation = rank_correlation(proxies, [point.wer for point in points])
        trusted = correlation >= self._threshold
        if trusted != self._trusted:
            verdict = "proxy on" if trusted else "proxy off"
            self._report(
                f"proxy loss against WER, {points[0].spec.mode}: rank correlation {correlation:.2f} over "
                f"{len(points)} specs (needed: {self._threshold:.2f}): {verdict}"
            )
        self._trusted = trusted
        return OVERSAMPLING if trusted else 1

    def pick(self, specs: Sequence[SubnetSpec], budget: Evaluations, count: int) -> list[int]:
        """Return the indices of the `count` specs to evaluate, by non-dominated sorting with the proxy."""
        objectives = budget.objectives
        proxies = self.proxies(specs)
        left: dict[SubnetSpec, tuple[int, Point]] = {}
        for index, (spec, proxy) in enumerate(zip(specs, proxies, strict=True)):
            # Known specs need no evaluation.
            if spec not in budget.points:
                left.setdefault(spec, (index, objectives.point(spec, {"wer": proxy})))
        chosen: list[int] = []
        while left and len(chosen) < count:
            front = pareto_front((point for _, point in left.values()), objectives.names)
            # From the last front take evenly spaced points.
            room = min(count - len(chosen), len(front))
            kept = [front[round(i * (len(front) - 1) / max(1, room - 1))] for i in range(room)]
            chosen += [left[point.spec][0] for point in kept]
            for point in front:
                del left[point.spec]
        return sorted(chosen) or list(range(min(count, len(specs))))

    def proxies(self, specs: Sequence[SubnetSpec]) -> list[float]:
        """Return the proxy loss of each spec."""
        new = sorted({spec for spec in specs if spec not in self._proxies})
        for spec, result in self._evaluate(new):
            self._proxies[spec] = float(result["loss"])
        return [self._proxies[spec] for spec in specs]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, ties with their mean rank; 0 if one side is constant.

    Example:
        >>> rank_correlation([1.0, 2.0, 5.0], [10.0, 20.0, 21.0])
        1.0
    """
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return round(float((x * y).sum()) / norm, 12) if norm > 0 else 0.0


def _ranks(values: Sequence[float]) -> Any:
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2.0)[places]
