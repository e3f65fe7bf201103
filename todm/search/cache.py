"""`EvalCache`: every evaluation ever made, on disk, so that a search can stop and go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from todm.errors import UserError
from todm.space.spec import SubnetSpec


class EvalCache:
    """Results by spec, one JSON line each, written to disk before the search sees them.

    A last line without its newline is what a killed process leaves behind: it is cut off.

    Args:
        path: JSONL file; made, with its folder, at the first `put`.
        context: what a result depends on besides the spec, for example a digest of the weights and of the
            utterances. Lines of another context are kept in the file and not looked at.

    Raises:
        UserError: a line before the last is not one of ours.
    """

    def __init__(self, path: Path, *, context: str = "") -> None:
        self.path = path
        self.context = context
        self._results: dict[SubnetSpec, dict[str, Any]] = {}
        if path.exists():
            _cut_torn_line(path)
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                try:
                    entry = json.loads(line)
                    spec, result = SubnetSpec.from_dict(entry["spec"]), dict(entry["result"])
                    same_context = entry["context"] == context
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f"{path}: line {number} is not an evaluation ({error}); delete that line or the file"
                    ) from error
                if same_context:
                    self._results[spec] = result

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, spec: SubnetSpec) -> bool:
        return spec in self._results

    def get(self, spec: SubnetSpec) -> dict[str, Any] | None:
        """The result of `spec`, None when it has not been evaluated in this context."""
        return self._results.get(spec)

    def put(self, spec: SubnetSpec, result: Mapping[str, Any]) -> None:
        """Append one evaluation and wait until the disk has it."""
        entry = {"spec": spec.to_dict(), "context": self.context, "result": dict(result)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(entry, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._results[spec] = dict(result)


def digest_file(path: Path) -> str:
    """Sixteen hex digits of a file's SHA-256, to tell one training's weights from another's."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)
