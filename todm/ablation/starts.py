"""Starts that runs of a grid have in common: trained once, continued by each.

In the diagonal start nothing is dropped, distilled, augmented or sampled (`todm.train.step`). Runs that
differ in these only are the same until it is over, bit for bit, and a checkpoint from its last batch serves
them all.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from todm.ablation.grid import PlannedRun
from todm.config import AugmentConfig, Config, DistillConfig, DropoutConfig, SandwichConfig
from todm.files import atomic_path
from todm.layout import checkpoint_path

METRICS = Path("train", "metrics.jsonl")


def start_of(run: PlannedRun) -> PlannedRun | None:
    """The run that is `run` until its diagonal start is over; None where it has no such start.

    A contrastive stage before it does drop units: then there is nothing to share.
    """
    train = run.config.train
    steps = train.loss.alignment_warmup_steps
    if train.contrastive.steps > 0 or steps == 0 or 0 < train.max_steps <= steps:
        return None
    # Without distillation the loss works through a batch in parts, and sums them in another order.
    alone = train.distill.lattice == "none"
    settled = replace(
        train,
        dropout=DropoutConfig(),
        distill=DistillConfig(lattice="none" if alone else "full"),
        sandwich=SandwichConfig(),
        contrastive=replace(train.contrastive, weight=0.0),
    )
    config: Config = replace(run.config, augment=AugmentConfig(), train=settled)
    return PlannedRun(variant="start", seed=run.seed, config=config)


def start_folder(exp: Path, start: PlannedRun) -> Path:
    """Where a start lives."""
    return exp / "starts" / start.digest


def start_checkpoint(exp: Path, start: PlannedRun) -> Path:
    """The checkpoint of its last batch."""
    steps = start.config.train.loss.alignment_warmup_steps
    return checkpoint_path(start_folder(exp, start) / "checkpoints", steps)


def missing_starts(exp: Path, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Starts that two or more of `runs` have in common and that are not there yet.

    Args:
        exp: folder of the grid.
        runs: those that are still to do.
    """
    starts = [start for run in runs if (start := start_of(run)) is not None]
    counts = Counter(start.digest for start in starts)
    by_digest = {start.digest: start for start in starts}
    return [
        start
        for digest, start in by_digest.items()
        if counts[digest] > 1 and not start_checkpoint(exp, start).is_file()
    ]


def take_over_start(exp: Path, run: PlannedRun, folder: Path) -> None:
    """Let a run that has no checkpoint yet go on from its start, if that is there.

    Args:
        exp: folder of the grid.
        run: any.
        folder: of the run; gets the start's checkpoint and metrics, seconds of training included.
    """
    start = start_of(run)
    if start is None or any((folder / "checkpoints").glob("step-*.pt")):
        return
    source = start_checkpoint(exp, start)
    if not source.is_file():
        return
    target = folder / "checkpoints" / source.name
    for folder_needed in (target.parent, (folder / METRICS).parent):
        folder_needed.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(start_folder(exp, start) / METRICS, folder / METRICS)
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
