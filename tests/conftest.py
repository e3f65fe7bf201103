from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave torch with one thread, whatever a command set: tests share the cores; their nets are small."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
