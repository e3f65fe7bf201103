"""Run a grid: one folder per run, named by the digest of its config; finished runs are kept.

``EXP/data`` is prepared once. ``EXP/runs/DIGEST`` holds the planned config, the files of training and
averaging, ``log.txt`` and finally ``result.json``; ``EXP/starts/DIGEST`` holds a beginning that several runs
share (`todm.ablation.starts`). The same command continues an interrupted grid: finished runs are skipped,
unfinished ones resume from their latest checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from todm.ablation.grid import Grid, PlannedRun
from todm.ablation.layout import GridFolder, GridRun
from todm.ablation.processes import RunProcesses
from todm.ablation.scores import write_scores
from todm.ablation.starts import (
    copy_start,
    find_start,
    list_missing_starts,
    start_checkpoint,
    start_folder,
)
from todm.api.run import Run
from todm.config import save_config
from todm.errors import UserError
from todm.files import write_text
from todm.train.stopping import EXIT_CODE


def run_folder(exp_dir: Path, run: PlannedRun) -> Path:
    """Return the folder of a run; variants with the same settings share it."""
    return GridFolder(exp_dir).run(run.digest).path


def is_done(exp_dir: Path, run: PlannedRun) -> bool:
    """Return whether the result of a run exists."""
    return GridRun(run_folder(exp_dir, run)).result.is_file()


def prepare_data(grid: Grid, exp_dir: Path, corpus_dir: Path | None) -> None:
    """Prepare ``EXP/data`` for all runs, once.

    Raises:
        UserError: the data are missing and there is no corpus, or they were prepared with other settings.
    """
    config = grid.config({})
    text = json.dumps(config.to_dict()["data"], sort_keys=True)
    digest, folder = hashlib.sha256(text.encode()).hexdigest(), GridFolder(exp_dir)
    if folder.data_mark.is_file():
        if folder.data_mark.read_text() != digest:
            raise UserError(f"{folder.data}: prepared with other settings of data; take another --exp-dir")
        return
    if corpus_dir is None:
        raise UserError(f"{folder.data}: not prepared yet; name the corpus with --corpus-dir")
    Run(exp_dir, config).prepare(corpus_dir)
    write_text(folder.data_mark, digest)


def do_single_run(folder: Path, *, until: int = 0) -> None:
    """Train, average and score the run in `folder`.

    Args:
        folder: run folder with its planned config and data.
        until: only train, for this many batches; 0 does everything.
    """
    files = GridRun(folder)
    run = Run(folder, files.planned_config)
    run.train(until=until)
    if until:
        return
    run.average()
    write_scores(folder)
    shutil.rmtree(files.checkpoints)  # a hundred megabytes that are not needed any more


def run_grid(
    runs: Sequence[PlannedRun],
    exp_dir: Path,
    *,
    num_jobs: int,
    on_message: Callable[[str], None] = lambda _: None,
) -> list[PlannedRun]:
    """Train, average and score all unfinished runs.

    Args:
        runs: runs of `Grid.plan`.
        exp_dir: folder with prepared data.
        num_jobs: runs at the same time.
        on_message: called with a line on each run.

    Returns:
        the runs that failed; the others are done.

    Raises:
        SystemExit: stopped by SIGTERM or Ctrl-C, after the running trainings have saved.
    """
    waiting = {run.digest: run for run in runs if not is_done(exp_dir, run)}
    total = len({run.digest for run in runs})
    on_message(f"{total} runs, {len(waiting)} of them to do, {num_jobs} at a time")
    worker = _Worker(exp_dir, RunProcesses(num_jobs), on_message)
    shared = {start.digest: start for start in list_missing_starts(exp_dir, list(waiting.values()))}
    with worker.processes.stop_on_signals(), ThreadPoolExecutor(num_jobs) as pool:
        # Submitted before the runs that wait for them.
        begun = {digest: pool.submit(worker.train_start, start) for digest, start in shared.items()}
        done = []
        for run in waiting.values():
            start = find_start(run)
            done.append(pool.submit(worker.do_run, run, begun.get(start.digest) if start else None))
        try:
            for future in done:
                future.result()
        except BaseException:
            worker.processes.stop()  # otherwise the error would be reported only after hours of training
            raise
    if worker.processes.stopping:
        on_message("stopped; run the same command again to continue")
        raise SystemExit(EXIT_CODE)
    return worker.failed


class _Worker:
    """Performs runs and shared starts, each in a child process."""

    def __init__(self, exp_dir: Path, processes: RunProcesses, on_message: Callable[[str], None]) -> None:
        self.processes = processes
        self.failed: list[PlannedRun] = []
        self._exp_dir = exp_dir
        self._on_message = on_message

    def train_start(self, start: PlannedRun) -> None:
        """Train a beginning that several runs share."""
        if self.processes.stopping:
            return
        folder = _fill_folder(start_folder(self._exp_dir, start), start)
        steps = str(start.config.train.loss.alignment_warmup_steps)
        trained = self.processes.finish(folder, "--until", steps)
        if trained and start_checkpoint(self._exp_dir, start).is_file():
            self._on_message(f"{folder.name} start of several runs, seed {start.seed}: trained")
        elif not self.processes.stopping:
            log = GridRun(folder).log
            self._on_message(
                f"{folder.name} start of several runs failed, see {log}; each run trains its own"
            )

    def do_run(self, run: PlannedRun, start: Future[None] | None) -> None:
        """Do one run, after its shared start."""
        if start is not None:
            start.result()
        if self.processes.stopping:
            return
        folder = _fill_folder(run_folder(self._exp_dir, run), run)
        try:
            copy_start(self._exp_dir, run, folder)
        except OSError as error:  # the run can train its own start
            self._on_message(f"{folder.name} cannot copy its start ({error}); it trains its own")
        if self.processes.finish(folder):
            self._on_message(f"{folder.name} {run.variant}, seed {run.seed}: {_summarize(folder)}")
        elif not self.processes.stopping:
            self.failed.append(run)
            log = GridRun(folder).log
            self._on_message(f"{folder.name} {run.variant}, seed {run.seed}: failed, see {log}")


def _fill_folder(folder: Path, run: PlannedRun) -> Path:
    files = GridRun(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(run.config, files.planned_config)
    if not files.data.exists():
        os.symlink(Path("..", "..", files.data.name), files.data, target_is_directory=True)
    return folder


def _summarize(folder: Path) -> str:
    result = json.loads(GridRun(folder).result.read_text(encoding="utf-8"))
    rates = ", ".join(f"{name} {size['wer']:.2f}%" for name, size in result["sizes"].items())
    return f"{rates}; {result['cost']['seconds']:.0f} s"
