"""The sandwich rule: which specs one training step runs.

Max, min and random nets in every step (Yu & Huang, arXiv 1903.05134; TODM, arXiv 2309.01947). With two
modes there are several smallest and largest specs; besides the overall max, the teacher, they take turns.
"""

from __future__ import annotations

import random

from todm.config import SandwichConfig
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def draw_specs(space: SearchSpace, config: SandwichConfig, *, seed: int, step: int) -> tuple[SubnetSpec, ...]:
    """Specs of one step, the max net (the teacher) first, without repetition.

    A pure function of `seed` and `step`, so that every process draws the same and a resumed run goes on
    as if it had not stopped.

    Example:
        >>> space = SearchSpace(num_layers=2, depths=(1, 2), ffn_dims=(4, 8), modes=("offline",))
        >>> specs = draw_specs(space, SandwichConfig(), seed=0, step=0)
        >>> specs[0] == space.max(), space.min() in specs
        (True, True)
    """
    rng = random.Random(f"specs-{seed}-{step}")
    corners = list(space.corners())
    count = min(config.num_corners, len(corners))
    first = step * count
    specs = [space.max()]
    specs += [corners[(first + i) % len(corners)] for i in range(count)]
    specs += [space.sample(rng) for _ in range(config.num_random)]
    return tuple(dict.fromkeys(specs))
