"""Parse limits and budgets: ``rtf <= 0.1 on pi4``, ``size <= 2 MB``. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from todm.errors import UserError
from todm.search.objectives import ObjectiveRef, find_family

_OBJECTIVE = re.compile(r"\s*([A-Za-z_]\w*)(?:\s+on\s+(\S+))?\s*")
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
    """The figure of `objective` must be at most `bound`, in the objective's own unit."""

    objective: ObjectiveRef
    bound: float

    def excess(self, value: float) -> float:
        """Relative excess of `value` over the bound; 0 within it."""
        return max(0.0, value - self.bound) / max(abs(self.bound), 1e-12)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A named target, for example a device, with limits for a net."""

    name: str
    limits: tuple[Limit, ...]


def parse_objective(text: str) -> ObjectiveRef:
    """Parse an objective: ``wer`` or ``rtf on pi4``.

    Raises:
        UserError: an unknown objective, or a missing device.
    """
    match = _OBJECTIVE.fullmatch(text)
    if not match:
        raise UserError(f"{text!r} is not an objective; write 'wer' or 'rtf on pi4'")
    objective = ObjectiveRef(name=match[1], device=match[2])
    find_family(objective)
    return objective


def parse_limit(text: str) -> Limit:
    """Parse a limit: ``NAME <= NUMBER [UNIT] [on DEVICE]``.

    Example:
        >>> parse_limit("size <= 2.5 MB").bound
        2500000.0
        >>> str(parse_limit("rtf<=0.1 on pi4").objective)
        'rtf on pi4'

    Raises:
        UserError: malformed text, a comparison other than ``<=``, no number, or an unknown unit.
    """
    match = _LIMIT.fullmatch(text)
    if not match:
        raise UserError(f"limit {text!r}: write it as 'rtf <= 0.1 on pi4' or 'size <= 2 MB'")
    name, comparison, number, unit, device = match.groups()
    if comparison != "<=":
        raise UserError(f"limit {text!r}: {comparison} is not possible; limits are of the form {name} <= ...")
    objective = ObjectiveRef(name=name, device=device)
    scales = _SCALES[find_family(objective).unit]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"limit {text!r}: {number!r} is not a number")
    if unit not in scales:
        units = " or ".join(filter(None, scales)) or "none"
        raise UserError(f"limit {text!r}: {unit!r} is not a unit of {name}; use {units}")
    return Limit(objective=objective, bound=value * scales[unit])


def parse_budget(text: str) -> Budget:
    """Parse a budget: ``NAME: LIMIT, LIMIT, ...``.

    Example:
        >>> parse_budget("watch: params <= 0.7 M, wer <= 3").name
        'watch'
    """
    name, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[\w.-]+", name.strip()):
        raise UserError(f"budget {text!r}: write it as 'watch: size <= 2 MB, rtf <= 0.1 on pi4'")
    return Budget(name=name.strip(), limits=parse_limits(rest.split(",")))


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """Parse a list of limits."""
    return tuple(parse_limit(text) for text in texts)
