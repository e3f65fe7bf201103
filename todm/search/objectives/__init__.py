"""What a spec is judged by; less is better in all of it. A further family is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from todm.errors import UserError
from todm.search.objectives import closed_form, device, size, wer
from todm.search.objectives.base import Family, Objective, ObjectiveContext, ObjectiveRef

FAMILIES: Mapping[str, Family] = {
    "wer": wer.FAMILY,
    "params": closed_form.PARAMS,
    "macs": closed_form.MACS,
    "state": closed_form.STATE,
    "size": size.FAMILY,
    "rtf": device.RTF,
    "latency": device.LATENCY,
}

__all__ = [
    "FAMILIES",
    "Family",
    "Objective",
    "ObjectiveContext",
    "ObjectiveRef",
    "find_family",
    "make_objectives",
]


def find_family(term: ObjectiveRef) -> Family:
    """The family that `term` names; `UserError` when there is none, or it wants a device and has none."""
    if term.name not in FAMILIES:
        raise UserError(f"{term.name!r} is no objective; those are {', '.join(FAMILIES)}")
    family = FAMILIES[term.name]
    if family.on_device and term.device is None:
        raise UserError(f"{term.name}: say which device, for example '{term.name} on pi4'")
    if not family.on_device and term.device is not None:
        raise UserError(f"{term}: {term.name} is the same on every device; leave 'on {term.device}' out")
    return family


def make_objectives(terms: Sequence[ObjectiveRef], setup: ObjectiveContext) -> list[Objective]:
    """Objectives of these terms, in their order, none twice."""
    return [find_family(term).build(term, setup) for term in dict.fromkeys(terms)]
