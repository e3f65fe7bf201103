"""Speed on a measured device, predicted from its table (`todm.search.latency`)."""

from __future__ import annotations

from todm.errors import UserError
from todm.search.latency import Figure
from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef, Unit


def _make_family(unit: Unit, figure: Figure) -> Family:
    def build(ref: ObjectiveRef, context: ObjectiveContext) -> Objective:
        table = context.devices.get(ref.device or "")
        if table is None:
            names = ", ".join(context.devices)
            known = f"known devices: {names}" if names else "no device is known yet"
            raise UserError(
                f"{ref}: no table of the device {ref.device}; {known}; measure it with todm "
                "latency, or name its table with --device-table FILE"
            )
        return Objective(
            ref=ref,
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

    return Family(unit=unit, build=build, on_device=True)


RTF = _make_family("", "rtf")
"""Real-time factor: seconds of work per second of audio."""

LATENCY = _make_family("ms", "latency_p95_ms")
"""95th percentile of the time of a call."""
