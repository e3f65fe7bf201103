from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prepared import prepare_run


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared run folder; not to be changed."""
    return prepare_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def new_run(prepared: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Fresh copies of the prepared folder, by name."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(prepared, tmp_path / name))

    return copy
