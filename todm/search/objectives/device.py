"""Speed on a device that was measured: from its table, see `todm.search.latency`."""

from __future__ import annotations

from todm.errors import UserError
from todm.search.latency import Figure
from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef, Unit


def _family(about: str, unit: Unit, figure: Figure) -> Family:
    def build(term: ObjectiveRef, setup: ObjectiveContext) -> Objective:
        table = setup.devices.get(term.device or "")
        if table is None:
            known = f"those known are {', '.join(setup.devices)}" if setup.devices else "none is known yet"
            raise UserError(
                f"{term}: no table of the device {term.device}; {known}; todm latency measures one, "
                "--device-table FILE gives another"
            )
        return Objective(
            term=term,
            unit=unit,
            decoded=False,
            measure=lambda spec, _: table.predict(
                figure,
                setup.shipped(spec),
                precision=setup.precision,
                num_threads=setup.num_threads,
                extrapolate=setup.extrapolate,
            ),
        )

    return Family(about=about, unit=unit, build=build, on_device=True)


RTF = _family("seconds of work per second of audio", "", "rtf")
LATENCY = _family("95th percentile of a call's time", "ms", "latency_p95_ms")
