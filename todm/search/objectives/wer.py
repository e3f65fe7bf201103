"""Word error rate on the search's dev utterances: greedy search with the net as it is exported."""

from __future__ import annotations

from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef


def _build(ref: ObjectiveRef, context: ObjectiveContext) -> Objective:
    return Objective(ref=ref, unit="%", decoded=True, measure=lambda spec, decoded: float(decoded["wer"]))


FAMILY = Family(unit="%", build=_build)
