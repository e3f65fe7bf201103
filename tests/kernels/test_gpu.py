from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch

from todm.kernels import gpu


@pytest.fixture(autouse=True)
def ask_again() -> Iterator[None]:
    """The answer is kept: before and after a test it is forgotten."""
    gpu._has_triton.cache_clear()
    yield
    gpu._has_triton.cache_clear()


def test_a_gpu_triton_and_a_compiler_are_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(gpu, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "clang" else None)
    assert not gpu.runs_triton(torch.device("cpu"))
    assert gpu.runs_triton(torch.device("cuda"))
    gpu._has_triton.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not gpu.runs_triton(torch.device("cuda", 1))
    assert not gpu.runs_triton(torch.device("cuda", 1))
    assert [record.getMessage().split(" is missing")[0] for record in caplog.records] == [
        "a C compiler (gcc or clang)"
    ]
    gpu._has_triton.cache_clear()
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert not gpu.runs_triton(torch.device("cuda"))
