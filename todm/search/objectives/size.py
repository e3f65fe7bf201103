"""Bytes of a bundle's three ONNX files: predicted from three exports of each mode.

A file grows by the same bytes with every layer and with every unit, so that three exports tell all; what a
guard leaves in float comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from todm.config import Mode
from todm.search.linear_cost import LinearCostModel, fit_additive
from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def _build(objective: ObjectiveRef, context: ObjectiveContext) -> Objective:
    assert context.export_size is not None
    space = SearchSpace.from_config(context.config)
    fits: dict[Mode, LinearCostModel] = {}
    known: dict[SubnetSpec, float] = {}

    def exported(spec: SubnetSpec) -> float:
        assert context.export_size is not None
        if spec not in known:
            known[spec] = float(context.export_size(spec))
        return known[spec]

    def measure(spec: SubnetSpec, _: Mapping[str, Any]) -> float:
        mode, depths = spec.mode, space.depths
        if len(depths) == 1 or any(len(widths) == 1 for widths in space.widths.values()):
            # A layer's bytes cannot be separated from a unit's.
            return exported(spec)
        if mode not in fits:
            probes = [space.min(mode), *space.shallow_corners(mode), space.max(mode)]
            fits[mode] = fit_additive(probes, [exported(probe) for probe in probes])
        return fits[mode](spec)

    return Objective(objective=objective, unit="B", decoded=False, measure=measure)


FAMILY = Family(about="bytes of the ONNX files", unit="B", build=_build)
