"""Where the tests of our GPU kernels run: on a GPU, else in Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch

pytest.importorskip("triton", reason="no Triton here")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("Triton was imported without its interpreter", allow_module_level=True)


@contextmanager
def kernels() -> Iterator[None]:
    """What runs in the block takes the way that it takes on a GPU."""
    with mock.patch("todm.kernels.gpu.runs_triton", return_value=True):
        yield
