"""Names and lists of checkpoint files."""

from __future__ import annotations

import re
from pathlib import Path

_CHECKPOINT = re.compile(r"step-(\d+)\.pt")
CHECKPOINT_PATTERN = "step-*.pt"
"""Glob of checkpoints."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Checkpoint after `step` batches in a folder of checkpoints.

    Example:
        >>> checkpoint_path(Path("exp/checkpoints"), 410).as_posix()
        'exp/checkpoints/step-00000410.pt'
    """
    return folder / f"step-{step:08d}.pt"


def checkpoint_step(path: Path) -> int | None:
    """Number of batches in the name of a checkpoint; None if it is not such a name.

    Example:
        >>> checkpoint_step(Path("step-00000410.pt")), checkpoint_step(Path("model.pt"))
        (410, None)
    """
    match = _CHECKPOINT.fullmatch(path.name)
    return int(match[1]) if match else None


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, readable or not, newest (most steps) first."""
    if not folder.is_dir():
        return []
    found = [(step, path) for path in folder.iterdir() if (step := checkpoint_step(path)) is not None]
    return [path for _, path in sorted(found, reverse=True)]
