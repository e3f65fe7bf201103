"""What a spec costs wherever it runs: parameters, arithmetic, streaming state."""

from __future__ import annotations

from collections.abc import Callable

from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef, Unit
from todm.space.cost import count_macs, count_params, count_state_bytes
from todm.space.spec import SubnetSpec


def _family(about: str, unit: Unit, count: Callable[[ObjectiveContext, SubnetSpec], int]) -> Family:
    def build(objective: ObjectiveRef, context: ObjectiveContext) -> Objective:
        return Objective(
            objective=objective,
            unit=unit,
            decoded=False,
            measure=lambda spec, _: float(count(context, context.shipped(spec))),
        )

    return Family(about=about, unit=unit, build=build)


PARAMS = _family(
    "parameters", "", lambda context, spec: count_params(context.config.model, spec, context.vocab_size)
)
MACS = _family(
    "multiplications per second of audio",
    "",
    lambda context, spec: count_macs(context.config.model, spec, context.vocab_size),
)
STATE = _family(
    "bytes of a stream's state, 0 offline",
    "B",
    lambda context, spec: count_state_bytes(context.config.model, spec),
)
