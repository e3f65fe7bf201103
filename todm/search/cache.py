"""Cache of evaluations on disk, so that searches can be interrupted, continued and share results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from todm.errors import UserError
from todm.files import append_line
from todm.space.spec import SubnetSpec

try:
    import fcntl
except ImportError:  # Windows: one process at a time there
    fcntl = None  # type: ignore[assignment]


class EvalCache:
    """Results by spec, one JSON line each, flushed to disk before they are used.

    The file is only appended to, under a lock, so that several processes can use it at the same time; lines
    that others have appended are read when an unknown spec is looked up. A last line without a newline, left
    by a killed process, is removed by the next writer.

    Args:
        path: JSONL file; created with its folder by the first `put`.
        context: everything else that a result depends on, for example a digest of the weights and the
            utterances. Lines of other contexts are kept in the file and ignored.

    Raises:
        UserError: a complete line is not an evaluation.
    """

    def __init__(self, path: Path, *, context: str = "") -> None:
        self.path = path
        self.context = context
        self._results: dict[SubnetSpec, dict[str, Any]] = {}
        self._offset = 0  # bytes of the file that were read
        self._lines = 0
        self._read()

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, spec: SubnetSpec) -> bool:
        return self.get(spec) is not None

    def get(self, spec: SubnetSpec) -> dict[str, Any] | None:
        """Return the result of `spec`, None if it has not been evaluated in this context."""
        if spec not in self._results:
            self._read()
        return self._results.get(spec)

    def put(self, spec: SubnetSpec, result: Mapping[str, Any]) -> None:
        """Append one evaluation and flush it to disk."""
        entry = {"spec": spec.to_dict(), "context": self.context, "result": dict(result)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file, _locked(file):
            _cut_torn_line(file)
            append_line(self.path, json.dumps(entry, sort_keys=True))
        self._results[spec] = dict(result)

    def _read(self) -> None:
        """Read the complete lines that are new."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        data = data[: data.rfind(b"\n") + 1]
        for line in data.splitlines():
            self._lines += 1
            try:
                entry = json.loads(line)
                spec, result = SubnetSpec.from_dict(entry["spec"]), dict(entry["result"])
                same_context = entry["context"] == self.context
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}: line {self._lines} is not an evaluation ({error}); delete that line or "
                    "the file"
                ) from error
            if same_context:
                self._results[spec] = result
        self._offset += len(data)


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _cut_torn_line(file: IO[bytes]) -> None:
    """Truncate the file after its last newline."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - (1 << 16))  # longer than any line
    file.seek(start)
    keep = start + file.read().rfind(b"\n") + 1
    if keep < end:
        file.truncate(keep)
