"""Grids of trainings that differ in one setting each: plan, run, score and compare them.

``import todm.ablation`` loads no torch: each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from todm.ablation.grid import load_grid
    from todm.ablation.report import write_grid_report
    from todm.ablation.runs import do_single_run, is_done, prepare_data, run_grid

__all__ = ["do_single_run", "is_done", "load_grid", "prepare_data", "run_grid", "write_grid_report"]

_MODULES = {
    "do_single_run": "todm.ablation.runs",
    "is_done": "todm.ablation.runs",
    "load_grid": "todm.ablation.grid",
    "prepare_data": "todm.ablation.runs",
    "run_grid": "todm.ablation.runs",
    "write_grid_report": "todm.ablation.report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'todm.ablation' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value
