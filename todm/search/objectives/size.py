"""Bytes of a bundle's three ONNX files, predicted from a few exports of each mode.

A file grows by the same number of bytes with every layer and every unit. Products that the int8 accuracy
check leaves in float are not included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from todm.config import Mode
from todm.search.linear_cost import LinearCostModel, fit_additive
from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def _build(ref: ObjectiveRef, context: ObjectiveContext) -> Objective:
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

    return Objective(ref=ref, unit="B", decoded=False, measure=measure)


FAMILY = Family(unit="B", build=_build)
