"""Start a command as several processes of this machine that train together.

``torchrun`` does the same with more features (several machines, restarts); this serves a machine with a few
cores. Two threads of one process synchronise after every small operation and are slowed down by any other
load; two processes synchronise once per step.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from todm.layout import RunFolder

POLL_SECONDS = 0.2
GRACE_SECONDS = 20.0
"""Grace period for the other processes to report after one fails."""


class ProcessesFailedError(RuntimeError):
    """A training process failed; its message is on standard error.

    Args:
        code: exit code of the lowest rank that failed, at least 1.
        log_dir: folder with the output of the processes other than the first.
    """

    def __init__(self, code: int, log_dir: Path) -> None:
        super().__init__(f"training processes failed with exit code {code}; see their output and {log_dir}")
        self.code = code


def started_by_launcher() -> bool:
    """Return whether this process is one of several, started here or by torchrun."""
    return "WORLD_SIZE" in os.environ


def run_processes(words: Sequence[str], num_processes: int, run: RunFolder) -> None:
    """Run ``todm words...`` in `num_processes` processes and wait for them.

    When one fails, the others are terminated after `GRACE_SECONDS`, since they would wait for it forever.

    Args:
        words: command line after ``todm``.
        num_processes: at least 2; the machine's cores are divided among them.
        run: receives the output of all processes but the first (`RunFolder.process_log`).

    Raises:
        ProcessesFailedError: a process failed.
    """
    run.train.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    environ = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_find_free_port()),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    processes: list[subprocess.Popen[bytes]] = []
    with _exit_on_sigterm():
        try:
            for rank in range(num_processes):
                numbered = {**environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                command = [sys.executable, "-m", "todm", *words]
                if rank == 0:
                    processes.append(subprocess.Popen(command, env=numbered))
                else:
                    with open(run.process_log(rank), "wb") as log:
                        processes.append(subprocess.Popen(command, env=numbered, stdout=log, stderr=log))
            code = _wait(processes, run)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                process.wait()
    if code:
        raise ProcessesFailedError(code, run.train)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that the clean-up forwards it and waits while the processes save."""
    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _wait(processes: Sequence[subprocess.Popen[bytes]], run: RunFolder) -> int:
    """Wait for all processes; 0, or the exit code of the lowest rank that failed."""
    while all(process.poll() in (None, 0) for process in processes):
        if all(process.poll() == 0 for process in processes):
            return 0
        time.sleep(POLL_SECONDS)
    # One failure makes the others fail too; only their messages show which one came first.
    deadline = time.monotonic() + GRACE_SECONDS
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    codes = [process.poll() for process in processes]
    for rank, code in enumerate(codes):
        if rank > 0 and code not in (
            None,
            0,
            128 + signal.SIGTERM,
        ):  # the last one saved and stopped on request
            _report(rank, run.process_log(rank))
    code = next(code for code in codes if code not in (None, 0))
    return code if code > 0 else 1


def _report(rank: int, log: Path) -> None:
    """Print the error message of a failed process."""
    lines = log.read_text(errors="replace").splitlines()
    messages = [line.removeprefix("todm: ") for line in lines if line.startswith("todm: ")]
    text = f"process {rank}: {messages[-1]}" if messages else f"process {rank} failed; see {log}"
    print(f"todm: {text}", file=sys.stderr)


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
