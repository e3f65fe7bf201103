"""ablate.sh hands its words to `todm ablate`, and says in one sentence what is wrong with them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "librispeech"


@pytest.fixture
def stub(tmp_path: Path) -> dict[str, str]:
    """An environment whose `todm` prints its words."""
    (tmp_path / "bin").mkdir()
    todm = tmp_path / "bin" / "todm"
    todm.write_text('#!/bin/sh\necho "$@"\n')
    todm.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


def call(stub: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPE / "ablate.sh"), *words]
    return subprocess.run(command, env=stub, capture_output=True, text=True, timeout=60, check=False)


def test_words_are_handed_on(stub: dict[str, str]) -> None:
    done = call(
        stub, "--corpus-dir", "D/", "--exp-dir", "E", "--num-jobs", "3", "--only", "a", "--only", "b c"
    )
    assert done.returncode == 0, done.stderr
    grid = RECIPE / "ablate.yaml"
    assert done.stdout == (
        f"ablate --grid {grid} --exp-dir E --num-jobs 3 --only a --only b c --corpus-dir D\n"
    )
    listed = call(stub, "--exp-dir", "E", "--list", "--grid", "other.yaml")
    assert listed.stdout.startswith("ablate --grid other.yaml --exp-dir E --num-jobs ")
    assert listed.stdout.rstrip().endswith("--list")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), "--exp-dir is missing"),
        (("--exp-dir",), "--exp-dir needs a value"),
        (("--exp-dir", "E", "--seeds", "3"), "unknown option --seeds"),
    ],
)
def test_usage_errors(stub: dict[str, str], words: tuple[str, ...], names: str) -> None:
    done = call(stub, *words)
    assert done.returncode == 2 and names in done.stderr and not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1


def test_help(stub: dict[str, str]) -> None:
    done = call(stub, "--help")
    assert done.returncode == 0 and "--only NAME" in done.stdout
