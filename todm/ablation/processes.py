"""Processes of a grid's runs, several at a time, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from todm.ablation.layout import GridRun


class RunProcesses:
    """Runs ``todm ablate --run FOLDER`` in child processes.

    Args:
        num_jobs: processes at the same time; the machine's cores are divided among them.
    """

    def __init__(self, num_jobs: int) -> None:
        self.stopping = False
        threads = max(1, (os.cpu_count() or 1) // num_jobs)
        self._environ = {"OMP_NUM_THREADS": str(threads), **os.environ}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def finish(self, folder: Path, *words: str) -> bool:
        """Train, average and score a run in a child process; returns whether it succeeded.

        Args:
            folder: run folder with its planned config and data.
            words: further options of ``todm ablate --run``.
        """
        with GridRun(folder).log.open("ab") as log, self._lock:
            if self.stopping:
                return False
            # A session of its own: Ctrl-C reaches it only as SIGTERM, upon which training saves.
            child = subprocess.Popen(
                [sys.executable, "-m", "todm", "ablate", "--run", str(folder), *words],
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._running.add(child)
        if self.stopping:  # set since the check above
            child.terminate()
        code = child.wait()
        self._running.discard(child)
        return code == 0

    def stop(self, *_: Any) -> None:
        """Start nothing more, and let the running processes save and end."""
        self.stopping = True
        for child in list(self._running):
            child.terminate()

    @contextmanager
    def stop_on_signals(self) -> Iterator[None]:
        """Call `stop` on SIGTERM and Ctrl-C while the context is open."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, self.stop) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
