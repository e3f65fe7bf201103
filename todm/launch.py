"""Start one command as several processes of this machine that train together.

``torchrun`` does the same and more (several machines, restarts); this is for the two cores of a laptop. Two
threads of one process meet after every small operation, and whatever else runs on the machine then holds both
up; two processes meet once per step.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

POLL_SECONDS = 0.2
LAST_WORDS_SECONDS = 20.0
"""What the others get, when one process failed, to notice it and say so."""


def started_by_launcher() -> bool:
    """Whether this process is one of several already (of ours or torchrun's)."""
    return "WORLD_SIZE" in os.environ


def run_together(words: Sequence[str], num_processes: int, log_dir: Path) -> int:
    """Run ``todm words...`` in `num_processes` processes and wait.

    When one fails, the others are stopped a few seconds later: they would wait for it for ever.

    Args:
        words: the command line after ``todm``.
        num_processes: at least 2; the machine's cores are shared out to them.
        log_dir: gets ``rank<i>.log``, what the processes but the first print.

    Returns:
        0, or the exit code of the lowest rank that failed.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    environ = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    processes: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        for rank in range(num_processes):
            numbered = {**environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "todm", *words]
            if rank == 0:
                processes.append(subprocess.Popen(command, env=numbered))
            else:
                with open(log_dir / f"rank{rank}.log", "wb") as log:
                    processes.append(subprocess.Popen(command, env=numbered, stdout=log, stderr=log))
        return _wait(processes, log_dir)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: FrameType | None) -> None:
    """End by way of the clean-up, which hands the signal on and waits for what the processes still save."""
    raise SystemExit(128 + number)


def _wait(processes: Sequence[subprocess.Popen[bytes]], log_dir: Path) -> int:
    while all(process.poll() in (None, 0) for process in processes):
        if all(process.poll() == 0 for process in processes):
            return 0
        time.sleep(POLL_SECONDS)
    # The others fail for want of the first; which was the first can only be told from what they say.
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    codes = [process.poll() for process in processes]
    for rank, code in enumerate(codes):
        if rank > 0 and code not in (None, 0, 128 + signal.SIGTERM):  # the last: it was told to save and end
            path = log_dir / f"rank{rank}.log"
            said = [
                line for line in path.read_text(errors="replace").splitlines() if line.startswith("todm: ")
            ]
            print(
                f"todm: process {rank}: {said[-1][6:]}"
                if said
                else f"todm: process {rank} failed; see {path}",
                file=sys.stderr,
            )
    code = next(code for code in codes if code not in (None, 0))
    return code if code > 0 else 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
