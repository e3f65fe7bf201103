"""``import todm`` and the help texts load no large package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import todm
from todm import api

LARGE = ("torch", "numpy", "lhotse", "onnxruntime", "matplotlib", "pymoo", "yaml")


@pytest.mark.parametrize("module", ["todm", "todm.api", "todm.cli", "todm.ablation"])
def test_import_loads_no_large_package(module: str) -> None:
    code = f"import sys, {module}; print(*(set({LARGE!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_public_names_are_there() -> None:
    for module in (todm, api):
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)
    with pytest.raises(AttributeError, match="nothing"):
        todm.nothing  # noqa: B018


def test_load_itself_needs_no_torch() -> None:
    code = "import sys, todm; todm.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
