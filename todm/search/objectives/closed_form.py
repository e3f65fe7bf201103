"""Objectives with a closed form: parameters, multiply-accumulates and streaming state."""

from __future__ import annotations

from collections.abc import Callable

from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef, Unit
from todm.space.cost import count_macs, count_params, count_state_bytes
from todm.space.spec import SubnetSpec


def _make_family(unit: Unit, count: Callable[[ObjectiveContext, SubnetSpec], int]) -> Family:
    def build(ref: ObjectiveRef, context: ObjectiveContext) -> Objective:
        return Objective(
            ref=ref,
            unit=unit,
            decoded=False,
            measure=lambda spec, _: float(count(context, context.shipped(spec))),
        )

    return Family(unit=unit, build=build)


PARAMS = _make_family("", lambda context, spec: count_params(context.config.model, spec, context.vocab_size))
"""Number of parameters."""

MACS = _make_family("", lambda context, spec: count_macs(context.config.model, spec, context.vocab_size))
"""Multiplications per second of audio."""

STATE = _make_family("B", lambda context, spec: count_state_bytes(context.config.model, spec))
"""Bytes of the state of a stream, 0 for offline nets."""
