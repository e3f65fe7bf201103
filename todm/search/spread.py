"""Specs of uniform width, spread evenly over the sizes of a search space."""

from __future__ import annotations

from collections.abc import Collection

from todm.config import Mode
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def spread_uniform(
    space: SearchSpace, mode: Mode, count: int, *, exclude: Collection[SubnetSpec] = ()
) -> list[SubnetSpec]:
    """Return at most `count` specs with one width in all layers, at even steps of size (`SearchSpace.share`).

    Args:
        space: the search space.
        mode: mode of all specs.
        count: number of specs; there may be fewer.
        exclude: specs to leave out.
    """
    uniform = {
        space.uniform(depth, width, mode) for depth in space.depths for width in space.uniform_widths()
    }
    line = sorted(uniform - set(exclude), key=lambda spec: (space.share(spec), spec))
    count = max(0, min(count, len(line)))
    return [line[round((i + 0.5) * len(line) / count - 0.5)] for i in range(count)]
