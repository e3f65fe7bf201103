"""The Slurm script with stand-ins for Slurm's commands and for ``todm``, which note how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SLURM = Path(__file__).parents[2] / "recipes" / "librispeech" / "slurm.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

# Two tasks on each of two machines, one after the other; the job's code is the highest, as srun's is.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
worst=0
for task in 0 1 2 3; do
  SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) SLURM_NTASKS=4 SLURM_NNODES=2 "$@" || code=$?
  ((${code:-0} <= worst)) || worst=$code
done
exit "$worst"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then echo node7; echo node8; else echo "$*" >>"$CALLS"; fi
"""
TODM = """#!/usr/bin/env bash
echo "$RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $*" >>"$CALLS"
exit "$CODE"
"""


def submit(folder: Path, code: int, *words: str) -> tuple[int, list[str]]:
    """Exit code and calls of a job whose processes end with `code`."""
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("todm", TODM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "41234", "SLURM_JOB_NODELIST": "node[7-8]", "CALLS": str(folder / "calls")}
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    found = subprocess.run(
        ["bash", str(SLURM), *words],
        env={**os.environ, **job, "CODE": str(code), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    calls = folder / "calls"
    return found.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_a_process_for_each_gpu_and_again_only_after_sigterm(tmp_path: Path) -> None:
    words = ["--conf", "a b.yaml", "--exp-dir", "exp", "--train.seed", "3"]
    expected = [
        f"{rank}/4 {rank % 2}/2 node7:21234 train --conf a b.yaml --exp-dir exp --train.seed 3"
        for rank in range(4)
    ]
    assert submit(tmp_path / "done", 0, *words) == (0, expected)
    assert submit(tmp_path / "time", 143, *words) == (143, [*expected, "requeue 41234"])
    assert submit(tmp_path / "fault", 2, *words) == (2, expected)
    assert submit(tmp_path / "words", 0) == (2, [])
