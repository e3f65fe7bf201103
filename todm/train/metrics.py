"""What a run says about itself: sums per interval, the log line, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from todm.errors import UserError
from todm.files import write_bytes


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
        """Add a sum (of losses over frames, say) and what it is a sum over (the number of frames)."""
        self._totals[name] = self._totals.get(name, 0.0) + total
        self._weights[name] = self._weights.get(name, 0.0) + weight

    def means(self) -> dict[str, float]:
        """Total by weight, per name in the order of first mention; names without any weight are left out."""
        return {
            name: total / self._weights[name] for name, total in self._totals.items() if self._weights[name]
        }

    def clear(self) -> None:
        """Begin the next interval."""
        self._totals.clear()
        self._weights.clear()

    def to_sums(self) -> dict[str, float]:
        """Totals and weights under distinct names, for a sum over processes (`todm.train.sync`)."""
        sums = {f"total/{name}": value for name, value in self._totals.items()}
        sums.update({f"weight/{name}": value for name, value in self._weights.items()})
        return sums

    @classmethod
    def from_sums(cls, sums: Mapping[str, float]) -> Mean:
        """Inverse of `to_sums`."""
        mean = cls()
        for key, value in sums.items():
            kind, _, name = key.partition("/")
            (mean._totals if kind == "total" else mean._weights)[name] = value
        return mean


@dataclass(frozen=True, kw_only=True)
class Report:
    """One interval of training.

    Args:
        epoch: of the present epoch, from 1.
        batch: batches done in this epoch.
        num_batches: batches of the epoch; 0 when unknown.
        step: batches done in the run.
        subnets: RNN-T loss per frame of each subnet, by name, in the order to show.
        losses: further numbers, for example ``{"distill": 0.02}``.
        lr: learning rate of the main group.
        grad_norm: last norm before clipping.
        clipped: share of the interval's steps that were clipped, 0 to 1.
        skipped: steps of the interval whose gradient was not finite; they changed nothing.
        hours_per_hour: hours of audio trained per hour of wall clock.
        eta: seconds to the end of the run; None when unknown.
        dropout: what the largest net drops at present, by site, and the schedule's factor.
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
        """One line for people."""
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
        """Plain values for metrics.jsonl, ``kind`` train."""
        return {"kind": "train", **asdict(self)}

    def scalars(self) -> dict[str, float]:
        """Tags and values for TensorBoard."""
        values = {f"loss/{name}": value for name, value in self.subnets.items()}
        values.update({f"loss/{name}": value for name, value in self.losses.items()})
        values.update({"optim/lr": self.lr, "optim/grad_norm": self.grad_norm, "optim/clipped": self.clipped})
        values.update({f"dropout/{name}": value for name, value in self.dropout.items()})
        values["optim/skipped"] = float(self.skipped)
        values["speed/hours_per_hour"] = self.hours_per_hour
        values["progress/epoch"] = float(self.epoch)
        return values


def format_duration(seconds: float | None) -> str:
    """Two units at most.

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
        step: where the run goes on; 0 begins a new file.

    Raises:
        UserError: a line in the middle is not JSON, or the disk is full.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else b""
        kept = b"".join(_lines_until(old, step, path)) if step > 0 else b""
        if kept != old:
            write_bytes(path, kept)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # closed by close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append `record`, which has a ``step``, and flush."""
        assert "step" in record
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror}); free some space") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JsonLines:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def _lines_until(content: bytes, step: int, path: Path) -> list[bytes]:
    lines = content.splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # cut off by a kill; only the last line can be
        try:
            record = json.loads(line)
            if record["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: line {number} is no record of a run; move the file away") from error
    return kept


class TensorBoard:
    """TensorBoard event files; without the tensorboard package it warns once and writes nothing.

    Args:
        folder: of the event files.
        step: where the run goes on; events beyond it are hidden.
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
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
