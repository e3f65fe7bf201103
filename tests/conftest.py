from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

# Before anything imports Triton: without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave torch with one thread, whatever a command set: tests share the cores; their nets are small."""
    yield
    torch.set_num_threads(1)
