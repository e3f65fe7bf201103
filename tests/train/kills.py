"""Kill a training run again and again at random moments: are its last weights those of an undisturbed one?

    python -m tests.train.kills [--kills 20] [--seed 0]

On the toy corpus. A killed run (SIGKILL) is started again by the same command, whatever it left, until it has
been killed so many times, and is then let through. It fails if a single bit of the last checkpoint's model,
optimiser or average differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.prepared import prepare_run
from tests.train.runs import assert_identical, newest, settings
from todm.config import save_config
from todm.layout import find_checkpoints

LONGEST = 2.0
"""Seconds of training after which a kill comes at the latest."""


def main() -> int:
    """Print a line per kill and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = (prepare_run(Path(folder) / name) for name in ("calm", "killed"))
        for exp in (calm, killed):
            save_config(settings(num_epochs=600, save_interval=7, keep_checkpoints=3), exp / "config.yaml")
        assert start(calm).wait() == 0
        for number in range(args.kills):
            process = start(killed)
            wait_for_training(process, killed)
            time.sleep(rng.uniform(0.0, LONGEST))
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                print(f"the run was over after {number} kills; let it be longer")
                return 1
            left = find_checkpoints(killed / "checkpoints")
            print(f"kill {number + 1:2d} left {left[0].name if left else 'nothing'}", flush=True)
        assert start(killed).wait() == 0
        one, other = newest(killed), newest(calm)
        for part in ("model", "optimizer", "average", "step"):
            assert_identical(one[part], other[part], part)
        print(f"bit-identical after {args.kills} kills and {one['step']} steps")
    return 0


def start(exp: Path) -> subprocess.Popen[bytes]:
    """`todm train` on a run folder."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "todm", "train", "--exp-dir", str(exp)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_training(process: subprocess.Popen[bytes], exp: Path) -> None:
    """Until the log grows: what is killed before that has done nothing."""
    path = exp / "train" / "metrics.jsonl"
    before = path.stat().st_size if path.is_file() else 0
    while process.poll() is None and (path.stat().st_size if path.is_file() else 0) <= before:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
