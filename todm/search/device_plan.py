"""Choose the specs that a device is measured with: some to fit its cost model, others to test it."""

from __future__ import annotations

import itertools
import random

from todm.config import Mode
from todm.search.spread import spread_uniform
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def plan_specs(
    space: SearchSpace, mode: Mode | None, num_fit: int, num_held_out: int
) -> tuple[list[SubnetSpec], list[SubnetSpec]]:
    """Return specs to fit a cost model on, and others to test it on, for every mode or for `mode`.

    The first are the smallest, the largest, one shallow and wide, one deep and narrow, and specs of uniform
    width spread between them; the others are random.

    Args:
        space: the search space.
        mode: only this mode; None takes all.
        num_fit: specs per mode to fit on.
        num_held_out: specs per mode to test on.
    """
    fit: list[SubnetSpec] = []
    held_out: list[SubnetSpec] = []
    for one in space.modes if mode is None else [m for m in space.modes if m == mode]:
        corners = [
            space.min(one),
            space.max(one),
            space.uniform(space.depths[0], space.width_at(1.0), one),
            space.uniform(space.depths[-1], space.width_at(0.0), one),
        ]
        between = spread_uniform(space, one, num_fit - len(corners), exclude=corners)
        chosen = list(dict.fromkeys([*corners, *between]))[:num_fit]
        rng = random.Random(f"held-out-{one}")
        drawn = (space.sample(rng, one) for _ in range(1000))
        others = dict.fromkeys(spec for spec in drawn if spec not in chosen)
        fit += chosen
        held_out += itertools.islice(others, num_held_out)
    return fit, held_out
