"""Pareto front of evaluated specs, its hypervolume, and the choice of specs to extract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from todm.errors import UserError
from todm.files import write_json
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluated spec.

    Args:
        spec: the subnet.
        figures: values by objective, for example ``wer`` (percent), ``params``, ``rtf on pi4``: all
            objectives and limits of the search, and the parameters.
        chosen: reasons to extract it: ``knee``, ``spread``, or the names of budgets that it is best for.
    """

    spec: SubnetSpec
    figures: Mapping[str, float]
    chosen: tuple[str, ...] = ()

    @property
    def wer(self) -> float:
        """WER in percent on the utterances of the search."""
        return self.figures["wer"]

    @property
    def params(self) -> int:
        """Number of parameters of the extracted net."""
        return round(self.figures["params"])

    def values(self, names: Sequence[str]) -> tuple[float, ...]:
        """Return the figures of these objectives."""
        return tuple(self.figures[name] for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the name of the spec."""
        return {
            "name": self.spec.name,
            "mode": self.spec.mode,
            "spec": self.spec.to_dict(),
            "figures": dict(self.figures),
            "chosen": list(self.chosen),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Point:
        """Read the values of `to_dict`."""
        return cls(
            spec=SubnetSpec.from_dict(data["spec"]),
            figures={str(name): float(value) for name, value in data["figures"].items()},
            chosen=tuple(str(reason) for reason in data["chosen"]),
        )


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Result of a search, the content of ``pareto.json``.

    Args:
        objectives: objectives of the front, for example ``("wer", "params")``.
        precision: precision of the evaluated nets.
        points: fronts of all modes and budgets.
        settings: settings of the search, for the record.
    """

    objectives: tuple[str, ...]
    precision: str
    points: tuple[Point, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> tuple[Point, ...]:
        """Points to extract."""
        return tuple(point for point in self.points if point.chosen)

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        data = {
            "objectives": list(self.objectives),
            "precision": self.precision,
            "settings": dict(self.settings),
            "points": [point.to_dict() for point in self.points],
        }
        write_json(path, data)

    @classmethod
    def load(cls, path: Path) -> SearchResult:
        """Read a file of `save`; raises `UserError` for a missing or damaged file."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                objectives=tuple(str(name) for name in data["objectives"]),
                precision=str(data["precision"]),
                points=tuple(Point.from_dict(item) for item in data["points"]),
                settings=dict(data["settings"]),
            )
        except FileNotFoundError as error:
            raise UserError(f"{path}: missing; run `todm search` first") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not a list of searched specs ({error}); run `todm search` again"
            ) from error


def pareto_front(points: Iterable[Point], names: Sequence[str]) -> list[Point]:
    """Return the points that no other dominates in `names`, one per tuple of values, by the last name."""
    ordered = sorted(points, key=lambda p: (p.values(names)[::-1], p.spec))
    front: list[Point] = []
    # In this order a point can only be dominated by an earlier one.
    for point in ordered:
        values = point.values(names)
        if not any(_covers(other.values(names), values) for other in front):
            front.append(point)
    return front


def _covers(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def hypervolume(values: Iterable[Sequence[float]], reference: Sequence[float]) -> float:
    """Compute the hypervolume of `values` below `reference` (Zitzler and Thiele, 1998), by slices.

    Example:
        >>> hypervolume([(2.0, 10.0)], (5.0, 30.0))
        60.0
    """
    inside = sorted({tuple(v) for v in values if all(x < r for x, r in zip(v, reference, strict=True))})
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - inside[0][0]
    volume = 0.0
    for index, value in enumerate(inside):
        following = inside[index + 1][0] if index + 1 < len(inside) else reference[0]
        if following > value[0]:  # slice that the values up to this one dominate
            volume += (following - value[0]) * hypervolume(
                (v[1:] for v in inside[: index + 1]), reference[1:]
            )
    return volume


def knee(front: Sequence[Point], names: Sequence[str]) -> Point | None:
    """Return the knee of a front: the point farthest below the plane through its ends.

    Every objective is scaled to its range on the front. If no point lies below the plane, the result is the
    point with the smallest first objective.
    """
    if not front:
        return None
    spans = []
    for name in names:
        values = [point.figures[name] for point in front]
        spans.append((min(values), max(values) - min(values)))

    def height(point: Point) -> float:
        return sum(
            (value - low) / span
            for value, (low, span) in zip(point.values(names), spans, strict=True)
            if span > 0
        )

    best = min(front, key=height)
    return best if height(best) < 1.0 - 1e-9 else min(front, key=lambda point: point.values(names))


def choose(front: Sequence[Point], names: Sequence[str], count: int) -> list[Point]:
    """Mark the points to extract: the knee and `count` - 1 more, spread from end to end."""
    picks: dict[SubnetSpec, str] = {}
    if (best := knee(front, names)) is not None:
        picks[best.spec] = "knee"
    for index in range(count - 1) if len(front) > 1 else ():
        place = round(index * (len(front) - 1) / max(1, count - 2))
        picks.setdefault(front[place].spec, "spread")
    return [
        replace(point, chosen=(*point.chosen, picks[point.spec])) if point.spec in picks else point
        for point in front
    ]
