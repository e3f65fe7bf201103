"""Logs of a run: means per interval, the log line, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from todm.errors import UserError
from todm.files import append_line, write_bytes
from todm.layout import RunFolder


class Mean:
    """Weighted means of named numbers, collected over an interval.

    Example:
        >>> mean = Mean()
        >>> mean.add("max", total=6.0, weight=3.0)
        >>> mean.add("max", total=1.0, weight=4.0)
        >>> mean.means()
        {'max': 1.0}
    """

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, name: str, *, total: float, weight: float) -> None:
        """Add a sum (of losses over frames, for example) and its weight (the number of frames)."""
        self._totals[name] = self._totals.get(name, 0.0) + total
        self._weights[name] = self._weights.get(name, 0.0) + weight

    def means(self) -> dict[str, float]:
        """Return total / weight by name, in the order of the first `add`, without names of weight 0."""
        return {
            name: total / self._weights[name] for name, total in self._totals.items() if self._weights[name]
        }

    def to_sums(self) -> dict[str, float]:
        """Return totals and weights by distinct names, for a sum over processes (`todm.train.sync`)."""
        sums = {f"total/{name}": value for name, value in self._totals.items()}
        sums.update({f"weight/{name}": value for name, value in self._weights.items()})
        return sums

    @classmethod
    def from_sums(cls, sums: Mapping[str, float]) -> Mean:
        """Restore means from the result of `to_sums`."""
        mean = cls()
        for key, value in sums.items():
            kind, _, name = key.partition("/")
            (mean._totals if kind == "total" else mean._weights)[name] = value
        return mean


@dataclass(frozen=True, kw_only=True)
class Report:
    """One interval of training.

    Args:
        epoch: number of the current epoch, from 1.
        batch: batches done in this epoch.
        num_batches: batches of the epoch; 0 when unknown.
        step: batches done in the run.
        subnets: RNN-T loss per frame of each subnet, by name, in the order to show.
        losses: further numbers, for example ``{"distill": 0.02}``.
        lr: learning rate of the main group.
        grad_norm: last norm before clipping.
        clipped: share of the interval's steps that were clipped, 0 to 1.
        skipped: steps of the interval whose gradient was not finite; they did not change the weights.
        hours_per_hour: hours of audio trained per hour of wall clock.
        eta: seconds to the end of the run; None when unknown.
        dropout: strength of the largest net's dropout by site, and the schedule's factor.
        seconds: wall clock of the interval.
    """

    epoch: int
    batch: int
    num_batches: int
    step: int
    subnets: Mapping[str, float]
    losses: Mapping[str, float] = field(default_factory=dict)
    lr: float
    grad_norm: float
    clipped: float
    hours_per_hour: float
    eta: float | None = None
    skipped: int = 0
    dropout: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def line(self) -> str:
        """Format the report as one line."""
        place = f"{self.batch}/{self.num_batches}" if self.num_batches else str(self.batch)
        sections = [
            f"epoch {self.epoch} batch {place} step {self.step}",
            " ".join(f"{name} {value:.3f}" for name, value in self.subnets.items()),
            " ".join(f"{name} {value:.3f}" for name, value in self.losses.items()),
            f"lr {self.lr:.2e} grad-norm {self.grad_norm:.3g} clipped {self.clipped:.0%}"
            + (f" skipped {self.skipped}" if self.skipped else ""),
            f"{self.hours_per_hour:.1f} h/h, ETA {format_duration(self.eta)}",
        ]
        return " | ".join(section for section in sections if section)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for metrics.jsonl, ``kind`` train."""
        return {"kind": "train", **asdict(self)}

    def scalars(self) -> dict[str, float]:
        """Return tags and values for TensorBoard."""
        values = {f"loss/{name}": value for name, value in self.subnets.items()}
        values.update({f"loss/{name}": value for name, value in self.losses.items()})
        values.update({"optim/lr": self.lr, "optim/grad_norm": self.grad_norm, "optim/clipped": self.clipped})
        values.update({f"dropout/{name}": value for name, value in self.dropout.items()})
        values["optim/skipped"] = float(self.skipped)
        values["speed/hours_per_hour"] = self.hours_per_hour
        values["progress/epoch"] = float(self.epoch)
        return values


def format_duration(seconds: float | None) -> str:
    """Format a duration in at most two units.

    Example:
        >>> [format_duration(s) for s in (None, 7.4, 250, 3720, 190000)]
        ['?', '7s', '4m10s', '1h02m', '2d04h']
    """
    if seconds is None:
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02d}h"


class JsonLines:
    """A file of one JSON object per line, each with its ``step``, that a resumed run continues.

    Opening drops the lines of steps beyond `step` (the resumed run will write them again) and a last
    line that was cut off.

    Args:
        path: the file; its folder is made when missing.
        step: steps of the resumed checkpoint; 0 starts a new file.

    Raises:
        UserError: a line in the middle is not JSON, or the disk is full.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self._path = path
        old = path.read_bytes() if path.exists() else b""
        kept = b"".join(_lines_until(old, step, path)) if step > 0 else b""
        if kept != old or not path.exists():
            write_bytes(path, kept)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append `record`, which must have a ``step``."""
        assert "step" in record
        append_line(self._path, json.dumps(record), sync=False)


def _lines_until(content: bytes, step: int, path: Path) -> list[bytes]:
    lines = content.splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # truncated by a kill, which only the last line can be
        try:
            record = json.loads(line)
            if record["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: line {number} is not a record of a run; move the file away") from error
    return kept


class TensorBoard:
    """TensorBoard event files; without the tensorboard package it warns once and writes nothing.

    Args:
        folder: where the event files are written.
        step: steps of the resumed checkpoint; later events are hidden.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            logging.getLogger(__name__).warning("no TensorBoard files (%s); pip install tensorboard", error)
            return
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None, flush_secs=30)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Add one value per tag at `step`."""
        if self._writer is not None:
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Flush and close the event files."""
        if self._writer is not None:
            self._writer.close()


class RunLogs:
    """metrics.jsonl and the TensorBoard files of a run.

    Args:
        metrics: metrics.jsonl; None writes nothing, as in processes other than rank 0.
        tensorboard: event files, likewise.
    """

    def __init__(self, metrics: JsonLines | None = None, tensorboard: TensorBoard | None = None) -> None:
        self._metrics = metrics
        self._tensorboard = tensorboard

    @classmethod
    def open(cls, folder: RunFolder, *, step: int) -> RunLogs:
        """Open the logs of a run that continues after `step` batches."""
        return cls(JsonLines(folder.metrics, step=step), TensorBoard(folder.tensorboard, step=step))

    def write(self, record: Mapping[str, Any], scalars: Mapping[str, float] | None = None) -> None:
        """Append a record to metrics.jsonl and its scalars to TensorBoard.

        Args:
            record: plain values; must have a ``step``.
            scalars: values by tag.
        """
        if self._metrics is not None:
            self._metrics.write(record)
        if self._tensorboard is not None and scalars:
            self._tensorboard.write(scalars, record["step"])

    def close(self) -> None:
        """Close the files that are open."""
        if self._tensorboard is not None:
            self._tensorboard.close()
