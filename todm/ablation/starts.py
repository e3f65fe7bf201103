"""Beginnings that runs of a grid share: trained once, continued by each.

During the alignment warm-up nothing is dropped, distilled, augmented or sampled (`todm.train.step`). Runs
that differ only in these settings are bit-identical until it ends, so one checkpoint serves all of them.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from todm.ablation.grid import PlannedRun
from todm.ablation.layout import GridFolder, GridRun
from todm.config import AugmentConfig, Config, DistillConfig, DropoutConfig, SandwichConfig
from todm.files import atomic_path


def find_start(run: PlannedRun) -> PlannedRun | None:
    """Return the run that equals `run` until the end of its alignment warm-up; None if it has no warm-up.

    A run with contrastive pre-training has none either, because that phase applies dropout.
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


def start_folder(exp_dir: Path, start: PlannedRun) -> Path:
    """Return the folder of a start."""
    return GridFolder(exp_dir).start(start.digest).path


def start_checkpoint(exp_dir: Path, start: PlannedRun) -> Path:
    """Return the checkpoint of the last batch of a start."""
    return GridRun(start_folder(exp_dir, start)).checkpoint(start.config.train.loss.alignment_warmup_steps)


def list_missing_starts(exp_dir: Path, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """List starts that two or more of `runs` share and that are not trained yet.

    Args:
        exp_dir: folder of the grid.
        runs: unfinished runs.
    """
    starts = [start for run in runs if (start := find_start(run)) is not None]
    counts = Counter(start.digest for start in starts)
    by_digest = {start.digest: start for start in starts}
    return [
        start
        for digest, start in by_digest.items()
        if counts[digest] > 1 and not start_checkpoint(exp_dir, start).is_file()
    ]


def copy_start(exp_dir: Path, run: PlannedRun, folder: Path) -> None:
    """Let a run without a checkpoint continue from its start, if that is trained.

    Args:
        exp_dir: folder of the grid.
        run: the run.
        folder: its run folder; receives the checkpoint and the metrics of the start, training time included.
    """
    start, files = find_start(run), GridRun(folder)
    if start is None or files.find_checkpoints():
        return
    source = start_checkpoint(exp_dir, start)
    if not source.is_file():
        return
    target = files.checkpoints / source.name
    for parent in (target.parent, files.train):
        parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(GridRun(start_folder(exp_dir, start)).metrics, files.metrics)
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
