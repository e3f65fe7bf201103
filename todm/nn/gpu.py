"""Whether our own GPU kernels can run."""

from __future__ import annotations

from importlib.util import find_spec

import torch


def runs_triton(device: torch.device) -> bool:
    """Whether this is a GPU, and Triton is there to program it (torch brings it on Linux)."""
    return device.type == "cuda" and find_spec("triton") is not None
