"""Names of weights in files of earlier versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

RENAMED = {"simple_am.": "simple_am_proj.", "simple_lm.": "simple_lm_proj."}
"""Prefixes of renamed modules of the supernet, old to new."""


def upgrade_names(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Replace the old names in a state dict; the order is kept.

    Example:
        >>> upgrade_names({"simple_am.bias": 1, "full.norm.bias": 2})
        {'simple_am_proj.bias': 1, 'full.norm.bias': 2}
    """
    return {_upgrade(name): value for name, value in weights.items()}


def _upgrade(name: str) -> str:
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
