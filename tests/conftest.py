from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# A busy machine may take any time for an example.
settings.register_profile("todm", deadline=None)
settings.load_profile("todm")

# Before anything imports Triton: without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


NUM_THREADS = int(os.environ.get("TODM_TEST_THREADS", "1"))


@pytest.fixture(autouse=True)
def fixed_thread_count() -> Iterator[None]:
    """Reset torch's thread count after each test: tests share the cores, and commands set it.

    One thread, or as many as ``TODM_TEST_THREADS`` names (``make test-cpus``).
    """
    torch.set_num_threads(NUM_THREADS)
    yield
    torch.set_num_threads(NUM_THREADS)
