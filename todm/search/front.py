"""Which of the evaluated specs are worth a look: the Pareto front, its volume and its knee."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from todm.errors import UserError
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluated spec.

    Args:
        spec: the subnet.
        wer: word error rate on the search's utterances, percent.
        params: parameters of the extracted net.
        knee: whether it is the recommended pick of its mode's front.
    """

    spec: SubnetSpec
    wer: float
    params: int
    knee: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the spec's name included."""
        return {
            "name": self.spec.name,
            "mode": self.spec.mode,
            "spec": self.spec.to_dict(),
            "wer": self.wer,
            "params": self.params,
            "knee": self.knee,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Point:
        """Inverse of `to_dict`."""
        return cls(
            spec=SubnetSpec.from_dict(data["spec"]),
            wer=float(data["wer"]),
            params=int(data["params"]),
            knee=bool(data.get("knee", False)),
        )


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """Points that no other beats in both WER and parameters, smallest first, one per pair of values."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.params, p.wer, p.spec)):
        if not front or point.wer < front[-1].wer:
            front.append(point)
    return front


def hypervolume(points: Iterable[Point], *, wer: float, params: float) -> float:
    """Area between the front and the corner (`params`, `wer`), in percent times parameters.

    Example:
        >>> spec = SubnetSpec(layers=(0,), ffn_dims=(8,), mode="offline")
        >>> hypervolume([Point(spec=spec, wer=2.0, params=10)], wer=5.0, params=30)
        60.0
    """
    area, ceiling = 0.0, wer
    for point in pareto_front(points):
        if point.params < params and point.wer < ceiling:
            area += (params - point.params) * (ceiling - point.wer)
            ceiling = point.wer
    return area


def knee(front: Sequence[Point]) -> Point | None:
    """Where more parameters stop paying: the point farthest below the line between the front's ends.

    Both axes are scaled to the front's own range, so that units do not matter. A front of one or two
    points, or one that never dips below the line, gives the point of the lowest WER.
    """
    if not front:
        return None
    first, last = front[0], front[-1]
    span_params, span_wer = last.params - first.params, first.wer - last.wer
    best, best_gap = last, 1e-9
    for point in front[1:-1]:
        gap = (first.wer - point.wer) / span_wer - (point.params - first.params) / span_params
        if gap > best_gap:
            best, best_gap = point, gap
    return best


def save_points(path: Path, points: Sequence[Point]) -> None:
    """Write a JSON list of points, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".json.partial")
    scratch.write_text(json.dumps([point.to_dict() for point in points], indent=1) + "\n")
    scratch.replace(path)


def load_points(path: Path) -> list[Point]:
    """Read what `save_points` wrote; a missing or broken file raises `UserError`."""
    try:
        return [Point.from_dict(item) for item in json.loads(path.read_text())]
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; run `todm search` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a list of searched specs ({error}); run `todm search` again") from error
