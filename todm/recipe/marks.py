"""Marks of finished stages: what a stage has read, so that a change can be named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from todm.config import Config
from todm.config.comparison import flatten_saved, show_value, value_before
from todm.errors import UserError
from todm.files import read_json, write_json

_SECTIONS = tuple(field.name for field in fields(Config))
"""First parts of the keys of settings; other keys are options of ``todm run``."""


@dataclass(frozen=True, kw_only=True)
class Reads:
    """Everything that a stage reads.

    Args:
        settings: values by dotted key of the config, or by option of ``todm run``.
        inputs: fingerprints by file name (relative to the run folder) or corpus part.
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Digest of all settings and inputs, 16 hexadecimal digits."""
        text = json.dumps([dict(self.settings), dict(self.inputs)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between what a stage has read and what it would read now.

    Args:
        key: setting or input.
        text: ``data.vocab_size was 64, is 500``.
    """

    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Record of a finished stage, ``EXP/.done/NUMBER.json``.

    Args:
        stage: name of the stage.
        reads: what it has read.
        seconds: duration.
        date: end, UTC.
    """

    stage: str
    reads: Reads
    seconds: int
    date: str

    def save(self, path: Path) -> None:
        """Write the mark atomically; a mark of an earlier version with the same number is removed."""
        record = {
            "stage": self.stage,
            "digest": self.reads.digest,
            "seconds": self.seconds,
            "date": self.date,
        }
        write_json(path, record | asdict(self.reads))
        old_mark(path).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Mark | None:
        """Read a mark, with the present names of its settings; None if there is none or it is unreadable."""
        try:
            record = read_json(path)
            reads = Reads(settings=_upgrade_settings(record["settings"]), inputs=dict(record["inputs"]))
            return cls(
                stage=str(record["stage"]),
                reads=reads,
                seconds=int(record["seconds"]),
                date=str(record["date"]),
            )
        except (UserError, KeyError, TypeError, ValueError):
            return None


def make_mark(stage: str, reads: Reads, seconds: float) -> Mark:
    """Return a mark with the present date."""
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Mark(stage=stage, reads=reads, seconds=round(seconds), date=date)


def old_mark(path: Path) -> Path:
    """Path of the mark that earlier versions wrote in place of `path`, two lines without the settings.

    Example:
        >>> old_mark(Path("exp/.done/4.json")).as_posix()
        'exp/.done/4'
    """
    assert path.suffix == ".json"
    return path.with_suffix("")


def read_old_seconds(path: Path) -> int | None:
    """Seconds in a mark of an earlier version; None if there is none."""
    old = old_mark(path)
    if not old.is_file():
        return None
    lines = (line.split() for line in old.read_text(encoding="utf-8", errors="replace").splitlines())
    values = {words[0]: words[1] for words in lines if len(words) == 2}
    return int(values["seconds"]) if values.get("seconds", "").isdigit() else None


def find_changes(before: Reads, now: Reads) -> list[Change]:
    """List what differs, settings first; a setting that did not exist before had its `value_before`."""
    changes = []
    for key in sorted({*before.settings, *now.settings}):
        old, new = before.settings.get(key, value_before(key)), now.settings.get(key)
        if old != new:
            text = f"{key} was {show_value(old)}, is {show_value(new)}"
            changes.append(Change(key=key, text=text))
    for key in sorted({*before.inputs, *now.inputs}):
        if before.inputs.get(key) != now.inputs.get(key):
            kind = "is new" if key not in before.inputs else "has changed"
            if key not in now.inputs:
                kind = "is no longer read"
            changes.append(Change(key=key, text=f"{key} {kind}"))
    return changes


def _upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings their present names; those that no longer exist are left out."""
    found, nested = {}, dict[str, Any]()
    for key, value in settings.items():
        if key.partition(".")[0] not in _SECTIONS:
            found[key] = value
            continue
        *path, name = key.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[name] = value
    return found | flatten_saved(nested)
