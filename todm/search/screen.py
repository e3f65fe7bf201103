"""A cheap figure that stands in for decoding: of many children only the promising ones are evaluated.

The figure is trusted as long as it ranks the specs that were evaluated as their word error rates do
(Spearman's rank correlation), and not before enough of them were.
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
    """Ranks children by the proxy in the place of the word error rate.

    Args:
        evaluate: specs to results with a key ``loss``.
        threshold: rank correlation from which on the proxy is trusted, 0 to 1.
        report: called with a line of text at the first verdict and when it changes.
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
        """How many times as many children to draw as will be evaluated: 1 while the proxy is not trusted."""
        points = list(budget.points.values())
        if "wer" not in budget.judge.names or len(points) < MIN_POINTS:
            return 1
        proxies = self.proxies([point.spec for point in points])
        correlation = rank_correlation(proxies, [point.wer for point in points])
        trusted = correlation >= self._threshold
        if trusted != self._trusted:
            verdict = "it screens" if trusted else "it does not screen"
            self._report(
                f"proxy loss against WER, {points[0].spec.mode}: rank correlation {correlation:.2f} over "
                f"{len(points)} specs (needed: {self._threshold:.2f}): {verdict}"
            )
        self._trusted = trusted
        return OVERSAMPLING if trusted else 1

    def pick(self, specs: Sequence[SubnetSpec], budget: Evaluations, count: int) -> list[int]:
        """Indices of the `count` specs to evaluate: front after front of what the proxy makes of them."""
        judge = budget.judge
        proxies = self.proxies(specs)
        left: dict[SubnetSpec, tuple[int, Point]] = {}
        for index, (spec, proxy) in enumerate(zip(specs, proxies, strict=True)):
            # A spec that is known already costs nothing and tells nothing new.
            if spec not in budget.points:
                left.setdefault(spec, (index, judge.point(spec, {"wer": proxy})))
        chosen: list[int] = []
        while left and len(chosen) < count:
            front = pareto_front((point for _, point in left.values()), judge.names)
            # Of a front that is too long, evenly spaced ones.
            room = min(count - len(chosen), len(front))
            kept = [front[round(i * (len(front) - 1) / max(1, room - 1))] for i in range(room)]
            chosen += [left[point.spec][0] for point in kept]
            for point in front:
                del left[point.spec]
        return sorted(chosen) or list(range(min(count, len(specs))))

    def proxies(self, specs: Sequence[SubnetSpec]) -> list[float]:
        """The cheap figure of each."""
        new = sorted({spec for spec in specs if spec not in self._proxies})
        for spec, result in self._evaluate(new):
            self._proxies[spec] = float(result["loss"])
        return [self._proxies[spec] for spec in specs]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's, equal values given their mean rank; 0 where one of them does not vary.

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
