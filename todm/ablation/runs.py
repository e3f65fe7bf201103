"""Running a grid: a folder for each run, named by its config's digest; what is done stays done.

``EXP/data`` is prepared once; ``EXP/runs/DIGEST`` holds ``conf.yaml``, what training and averaging leave
there, ``log.txt`` and, at the end, ``result.json``; ``EXP/starts/DIGEST`` what several runs begin with
(`todm.ablation.starts`). An interrupted grid goes on with the same command: finished runs are skipped,
unfinished ones continue at their last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from todm.ablation.grid import Grid, PlannedRun
from todm.ablation.measure import RESULT
from todm.ablation.starts import (
    missing_starts,
    start_checkpoint,
    start_folder,
    start_of,
    take_over_start,
)
from todm.config import save_config
from todm.data.prepare import prepare
from todm.errors import UserError
from todm.files import write_text
from todm.train.stopping import EXIT_CODE


def run_folder(exp: Path, run: PlannedRun) -> Path:
    """Where a run lives; variants with the same settings share it."""
    return exp / "runs" / run.digest


def is_done(exp: Path, run: PlannedRun) -> bool:
    """Whether its result is there."""
    return (run_folder(exp, run) / RESULT).is_file()


def prepare_data(grid: Grid, exp: Path, corpus_dir: Path | None) -> None:
    """Prepare ``EXP/data`` for all runs, once.

    Raises:
        UserError: it is not there and no corpus was named, or it was prepared with other settings.
    """
    config = grid.config({})
    text = json.dumps(config.to_dict()["data"], sort_keys=True)
    digest, mark = hashlib.sha256(text.encode()).hexdigest(), exp / "data" / ".grid"
    if mark.is_file():
        if mark.read_text() != digest:
            raise UserError(f"{exp / 'data'}: prepared with other settings of data; take another --exp-dir")
        return
    if corpus_dir is None:
        raise UserError(f"{exp / 'data'}: not prepared yet; name the corpus with --corpus-dir")
    prepare(config, corpus_dir, exp)
    write_text(mark, digest)


def run_grid(
    runs: Sequence[PlannedRun], exp: Path, *, jobs: int, say: Callable[[str], None] = print
) -> list[PlannedRun]:
    """Train, average and measure all of `runs` that are not done.

    Args:
        runs: of `Grid.plan`.
        exp: folder with prepared data.
        jobs: runs at a time.
        say: takes a line on each run.

    Returns:
        those that failed; the others are done.

    Raises:
        SystemExit: stopped by SIGTERM or Ctrl-C, once the running trainings have saved.
    """
    waiting = {run.digest: run for run in runs if not is_done(exp, run)}
    say(f"{len({run.digest for run in runs})} runs, {len(waiting)} of them to do, {jobs} at a time")
    failed: list[PlannedRun] = []
    children = _Children(jobs)

    shared = {start.digest: start for start in missing_starts(exp, list(waiting.values()))}

    def begin(start: PlannedRun) -> None:
        if children.stopping:
            return
        folder = _fill_folder(start_folder(exp, start), start)
        steps = str(start.config.train.loss.alignment_warmup_steps)
        if children.finish(folder, "--until", steps) and start_checkpoint(exp, start).is_file():
            say(f"{folder.name} start of several runs, seed {start.seed}: trained")
        elif not children.stopping:
            say(f"{folder.name} start of several runs failed, see {folder / 'log.txt'}; each does its own")

    def work(run: PlannedRun, ready: Future[None] | None) -> None:
        if ready is not None:
            ready.result()
        if children.stopping:
            return
        folder = _fill_folder(run_folder(exp, run), run)
        try:
            take_over_start(exp, run, folder)
        except (OSError, UserError) as error:  # its own start is as good
            say(f"{folder.name} cannot take over its start ({error}); it does its own")
        if children.finish(folder):
            say(f"{folder.name} {run.variant}, seed {run.seed}: {_summary(folder)}")
        elif not children.stopping:
            failed.append(run)
            say(f"{folder.name} {run.variant}, seed {run.seed}: failed, see {folder / 'log.txt'}")

    with children.stopped_by_signals(), ThreadPoolExecutor(jobs) as pool:
        # In front of the runs that wait for them.
        begun = {digest: pool.submit(begin, start) for digest, start in shared.items()}
        done = []
        for run in waiting.values():
            start = start_of(run)
            done.append(pool.submit(work, run, None if start is None else begun.get(start.digest)))
        try:
            for future in done:
                future.result()
        except BaseException:
            children.stop()  # what is left would train for hours before the reason is told
            raise
    if children.stopping:
        say("stopped; the same command goes on from here")
        raise SystemExit(EXIT_CODE)
    return failed


def _fill_folder(folder: Path, run: PlannedRun) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_config(run.config, folder / "conf.yaml")
    if not (folder / "data").exists():
        os.symlink(Path("..", "..", "data"), folder / "data", target_is_directory=True)
    return folder


def _summary(folder: Path) -> str:
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    rates = ", ".join(f"{name} {size['wer']:.2f}%" for name, size in result["sizes"].items())
    return f"{rates}; {result['cost']['seconds']:.0f} s"


class _Children:
    """The processes at work, and how they are stopped."""

    def __init__(self, jobs: int) -> None:
        self.stopping = False
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self._environ = {"OMP_NUM_THREADS": str(threads), **os.environ}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def finish(self, folder: Path, *words: str) -> bool:
        """Train, average and measure in a process of its own; whether that ended well.

        Args:
            folder: with ``conf.yaml`` and ``data``.
            words: further ones for ``todm ablate --run``.
        """
        with (folder / "log.txt").open("ab") as log, self._lock:
            if self.stopping:
                return False
            # A session of its own: Ctrl-C reaches it as SIGTERM only, at which training saves.
            child = subprocess.Popen(
                [sys.executable, "-m", "todm", "ablate", "--run", str(folder), *words],
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._running.add(child)
        if self.stopping:  # since it was looked at
            child.terminate()
        code = child.wait()
        self._running.discard(child)
        return code == 0

    def stop(self, *_: Any) -> None:
        """Start nothing more, and ask what runs to save and end."""
        self.stopping = True
        for child in list(self._running):
            child.terminate()

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """`stop` on SIGTERM and Ctrl-C."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, self.stop) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
