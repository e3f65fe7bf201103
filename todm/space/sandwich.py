"""The sandwich rule: the specs of one training step.

Every step runs the max net, the min net and random nets (Yu & Huang, arXiv 1903.05134; TODM, arXiv
2309.01947). With two modes there are several smallest and largest specs; all except the overall max, the
teacher, take turns. ``num_students`` limits the students per step, which then take turns too. With
``student_interval`` k only every k-th step has students.
"""

from __future__ import annotations

import random

from todm.config import SandwichConfig
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def draw_specs(space: SearchSpace, config: SandwichConfig, *, seed: int, step: int) -> tuple[SubnetSpec, ...]:
    """Draw the specs of one step: the max net (the teacher) first, no spec twice.

    A pure function of `seed` and `step`: every process draws the same specs, and a resumed run continues
    with the specs of an uninterrupted one.

    Example:
        >>> space = SearchSpace(num_layers=2, depths=(1, 2), widths={"ffn_dim": (4, 8)}, modes=("offline",))
        >>> specs = draw_specs(space, SandwichConfig(), seed=0, step=0)
        >>> specs[0] == space.max(), space.min() in specs
        (True, True)
    """
    if step % config.student_interval:
        return (space.max(),)
    rng = random.Random(f"specs-{seed}-{step}")
    corners = list(space.corners())
    num_corners = min(config.num_corners, len(corners))
    num_slots = num_corners + config.num_random
    count = min(config.num_students or num_slots, num_slots)
    specs = [space.max()]
    sandwich = step // config.student_interval
    for turn in range(sandwich * count, (sandwich + 1) * count):
        round_index, slot = divmod(turn, num_slots)
        if slot < num_corners:
            specs.append(corners[(round_index * num_corners + slot) % len(corners)])
        else:
            specs.append(space.sample(rng))
    return tuple(dict.fromkeys(specs))
