"""Availability of the Triton kernels."""

from __future__ import annotations

import logging
import os
import shutil
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

log = logging.getLogger(__name__)


def runs_triton(device: torch.device) -> bool:
    """Whether this is a GPU and Triton is installed (torch depends on it on Linux)."""
    return device.type == "cuda" and _has_triton()


def find_kernels(name: str, device: torch.device) -> ModuleType | None:
    """Import `todm.kernels.NAME` if its kernels run on `device`, or else return None."""
    return import_module(f"todm.kernels.{name}") if runs_triton(device) else None


@cache
def _has_triton() -> bool:
    """Whether Triton is installed, and a C compiler, with which it builds its launchers."""
    missing = None
    if find_spec("triton") is None:
        missing = "Triton"
    elif not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        missing = "a C compiler (gcc or clang)"
    if missing:
        log.warning("%s is missing: the GPU runs torch's own operations, which take twice as long", missing)
    return missing is None
