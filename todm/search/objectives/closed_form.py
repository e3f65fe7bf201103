"""What a spec costs wherever it runs: parameters, arithmetic, streaming state."""

from __future__ import annotations

from collections.abc import Callable

from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef, Unit
from todm.space.cost import count_macs, count_params, count_state_bytes
from todm.space.spec import SubnetSpec


def _family(about: str, unit: Unit, count: Callable[[ObjectiveContext, SubnetSpec], int]) -> Family:
    def build(term: ObjectiveRef, setup: ObjectiveContext) -> Objective:
        return Objective(
            term=term,
            unit=unit,
            decoded=False,
            measure=lambda spec, _: float(count(setup, setup.shipped(spec))),
        )

    return Family(about=about, unit=unit, build=build)


PARAMS = _family(
    "parameters", "", lambda setup, spec: count_params(setup.config.model, spec, setup.vocab_size)
)
MACS = _family(
    "multiplications per second of audio",
    "",
    lambda setup, spec: count_macs(setup.config.model, spec, setup.vocab_size),
)
STATE = _family(
    "bytes of a stream's state, 0 offline",
    "B",
    lambda setup, spec: count_state_bytes(setup.config.model, spec),
)
