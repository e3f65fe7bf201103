"""Word error rate on the search's dev utterances, greedy, through the net that will ship."""

from __future__ import annotations

from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef


def _build(objective: ObjectiveRef, context: ObjectiveContext) -> Objective:
    return Objective(
        objective=objective, unit="%", decoded=True, measure=lambda spec, decoded: float(decoded["wer"])
    )


FAMILY = Family(about="word error rate on dev utterances", unit="%", build=_build)
