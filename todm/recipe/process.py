"""Run one command in a process of its own and pass signals on to it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def run_process(command: Sequence[str]) -> int:
    """Run a command and wait for it.

    SIGINT, SIGTERM and SIGHUP reach the command as SIGTERM, at which a training saves a checkpoint and ends.
    A second signal kills the command and all processes that it has started. The command runs in a session of
    its own, so that Ctrl-C in a terminal does not reach it directly; on Linux it gets SIGTERM as well when
    this process is killed.

    Returns:
        The exit code of the command; 128 + N if signal N ended it.

    Raises:
        SystemExit: a signal was received; with the command's exit code, or 130 for SIGINT.
    """
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if process is None:
            return
        if len(received) == 1:
            process.terminate()
        else:
            _kill_group(process.pid)

    with _handling(forward):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent()
        )
        if received:  # before there was a process
            process.terminate()
        code = process.wait()
        if received:
            _kill_group(process.pid)
    code = 128 - code if code < 0 else code
    if received:
        raise SystemExit(128 + signal.SIGINT if received[0] == signal.SIGINT else code or 128 + received[0])
    return code


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    """Handle `SIGNALS` with `handler`, except those that are ignored, as SIGHUP under nohup.

    Python allows handlers in the main thread only; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _die_with_parent() -> Any:
    """Return a function for the new process that requests SIGTERM at the death of this one."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
