"""Whether our own GPU kernels can run."""

from __future__ import annotations

import logging
import os
import shutil
from functools import cache
from importlib.util import find_spec

import torch

log = logging.getLogger(__name__)


def runs_triton(device: torch.device) -> bool:
    """Whether this is a GPU, and Triton is there to program it (torch brings it on Linux)."""
    return device.type == "cuda" and _has_triton()


@cache
def _has_triton() -> bool:
    """Triton, and the C compiler that it builds its launchers with."""
    missing = None
    if find_spec("triton") is None:
        missing = "Triton"
    elif not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        missing = "a C compiler (gcc or clang)"
    if missing:
        log.warning("%s is missing: on the GPU torch's own operations run, which take twice as long", missing)
    return missing is None
