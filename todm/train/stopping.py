"""SIGTERM as a request: a job scheduler asks training to end, and nothing may be lost by it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

EXIT_CODE = 128 + signal.SIGTERM
"""What a shell reports of a process that SIGTERM ended."""


class StopRequest:
    """Notes SIGTERM for the time of the block instead of dying of it.

    Outside the main thread, where Python allows no handler, it never notices anything.
    """

    def __init__(self) -> None:
        self.requested = False
        self._watching = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._watching = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watching:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
