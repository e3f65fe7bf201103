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


def find_family(ref: ObjectiveRef) -> Family:
    """Return the family that `ref` names; `UserError` for an unknown name or a missing device."""
    if ref.name not in FAMILIES:
        raise UserError(f"{ref.name!r} is not an objective; use {', '.join(FAMILIES)}")
    family = FAMILIES[ref.name]
    if family.on_device and ref.device is None:
        raise UserError(f"{ref.name}: name the device, for example '{ref.name} on pi4'")
    if not family.on_device and ref.device is not None:
        raise UserError(f"{ref}: {ref.name} is the same on every device; leave 'on {ref.device}' out")
    return family


def make_objectives(refs: Sequence[ObjectiveRef], context: ObjectiveContext) -> list[Objective]:
    """Build the objectives in their order, without duplicates."""
    return [find_family(ref).build(ref, context) for ref in dict.fromkeys(refs)]
