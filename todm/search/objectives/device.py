"""Speed on a device that was measured: from its table, see `todm.search.latency`."""

from __future__ import annotations

from todm.errors import UserError
from todm.search.latency import Figure
from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef, Unit


def _family(about: str, unit: Unit, figure: Figure) -> Family:
    def build(objective: ObjectiveRef, context: ObjectiveContext) -> Objective:
        table = context.devices.get(objective.device or "")
        if table is None:
            known = (
                f"known devices: {', '.join(context.devices)}"
                if context.devices
                else "no device is known yet"
            )
            raise UserError(
                f"{objective}: no table of the device {objective.device}; {known}; measure it with todm "
                "latency, or name its table with --device-table FILE"
            )
        return Objective(
            objective=objective,
            unit=unit,
            decoded=False,
            measure=lambda spec, _: table.predict(
                figure,
                context.shipped(spec),
                precision=context.precision,
                num_threads=context.num_threads,
                extrapolate=context.extrapolate,
            ),
        )

    return Family(about=about, unit=unit, build=build, on_device=True)


RTF = _family("seconds of work per second of audio", "", "rtf")
LATENCY = _family("95th percentile of a call's time", "ms", "latency_p95_ms")
