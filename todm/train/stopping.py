"""SIGTERM as a request to stop, as job schedulers send it, so that training can save before it ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

EXIT_CODE = 128 + signal.SIGTERM
"""Exit code that a shell reports for a process ended by SIGTERM."""


class StopRequest:
    """Records SIGTERM during the block instead of ending the process.

    Outside the main thread, where Python allows no handlers, SIGTERM keeps its effect.
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
