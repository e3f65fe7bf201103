"""Limits as the user writes them: ``rtf <= 0.1 on pi4``, ``size <= 2 MB``. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from todm.errors import UserError
from todm.search.objectives import ObjectiveRef, find_family

_TERM = re.compile(r"\s*([A-Za-z_]\w*)(?:\s+on\s+(\S+))?\s*")
_LIMIT = re.compile(
    r"\s*([A-Za-z_]\w*)\s*(<=|<|>=|>|==|=)\s*([-+.\d]+(?:[eE][-+]?\d+)?|\S+)\s*([A-Za-z%]*)"
    r"(?:\s+on\s+(\S+))?\s*"
)
_SCALES = {
    "%": {"": 1.0, "%": 1.0},
    "": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    "B": {"": 1.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "ms": {"": 1.0, "ms": 1.0, "s": 1e3},
}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The figure of `term` must be at most `bound`, in the objective's own unit."""

    term: ObjectiveRef
    bound: float

    def excess(self, value: float) -> float:
        """By how much `value` is above the bound, as a share of it; 0 within it."""
        return max(0.0, value - self.bound) / max(abs(self.bound), 1e-12)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A device or a use, and what a net for it must keep to."""

    name: str
    limits: tuple[Limit, ...]


def parse_term(text: str) -> ObjectiveRef:
    """``wer`` or ``rtf on pi4``.

    Raises:
        UserError: no such objective, or no device where one is needed.
    """
    found = _TERM.fullmatch(text)
    if not found:
        raise UserError(f"{text!r} is no objective; write 'wer' or 'rtf on pi4'")
    term = ObjectiveRef(name=found[1], device=found[2])
    find_family(term)
    return term


def parse_limit(text: str) -> Limit:
    """``NAME <= NUMBER [UNIT] [on DEVICE]``.

    Example:
        >>> parse_limit("size <= 2.5 MB").bound
        2500000.0
        >>> str(parse_limit("rtf<=0.1 on pi4").term)
        'rtf on pi4'

    Raises:
        UserError: another form, another comparison, no number, or a unit that does not suit.
    """
    found = _LIMIT.fullmatch(text)
    if not found:
        raise UserError(f"limit {text!r}: write it as 'rtf <= 0.1 on pi4' or 'size <= 2 MB'")
    name, comparison, number, unit, device = found.groups()
    if comparison != "<=":
        raise UserError(f"limit {text!r}: {comparison} is not possible; limits are of the form {name} <= ...")
    term = ObjectiveRef(name=name, device=device)
    scales = _SCALES[find_family(term).unit]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"limit {text!r}: {number!r} is no number")
    if unit not in scales:
        units = " or ".join(filter(None, scales)) or "none"
        raise UserError(f"limit {text!r}: {unit!r} is no unit of {name}; possible: {units}")
    return Limit(term=term, bound=value * scales[unit])


def parse_budget(text: str) -> Budget:
    """``NAME: LIMIT, LIMIT, ...``.

    Example:
        >>> parse_budget("watch: params <= 0.7 M, wer <= 3").name
        'watch'
    """
    name, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[\w.-]+", name.strip()):
        raise UserError(f"budget {text!r}: write it as 'watch: size <= 2 MB, rtf <= 0.1 on pi4'")
    return Budget(name=name.strip(), limits=parse_limits(rest.split(",")))


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """Several of them."""
    return tuple(parse_limit(text) for text in texts)
