"""Runs the stages of the recipe, or lists what would run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from todm.config import load_config
from todm.config.comparison import RUN_LENGTH
from todm.errors import UserError
from todm.files import append_line, write_json
from todm.layout import checkpoint_step
from todm.recipe.context import TRAIN_STAGE, Context, RecipeOptions
from todm.recipe.marks import Change, Mark, Reads, find_changes, make_mark, old_mark, read_old_seconds
from todm.recipe.model_stages import FineTuneStage, ReportStage
from todm.recipe.process import run_process
from todm.recipe.settings import load_context, select_stages
from todm.recipe.stage import Command, Stage
from todm.recipe.stages import make_command_line

Execute = Callable[[Sequence[str]], int]
"""Runs a command line and returns its exit code."""


FORCE_ANEW = "--force --train.resume never trains anew, another --exp-dir keeps both"
"""Advice on a changed setting of a finished training."""


class State(Enum):
    """What `todm run` does with a stage."""

    DONE = "done"
    RUN = "would run"
    REFUSED = "refused"
    LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of a stage and its reason.

    Args:
        state: what happens to it.
        reason: why, empty for a stage that is done.
        changes: what has changed since it was done.
        adopted: mark to write for a stage that was finished without one.
    """

    state: State
    reason: str = ""
    changes: tuple[Change, ...] = ()
    adopted: Mark | None = None


def run_recipe(options: RecipeOptions, execute: Execute = run_process) -> None:
    """Run the stages from `options.first` to `options.last` that are not done.

    Args:
        options: the command line.
        execute: runs one command in a process of its own, which keeps thread counts, GPU memory and crashes
            of one stage from the others.

    Raises:
        UserError: an impossible option, or a change that would make a trained net outdated.
        SystemExit: a command failed or a signal was received; with the exit code.
    """
    context = load_context(options)
    if options.force:  # before an earlier stage overwrites what a finished training has read
        for stage in select_stages(options):
            if (
                stage.number <= TRAIN_STAGE
                and (status := _inspect_forced(stage, context)).state is State.REFUSED
            ):
                raise UserError(status.reason)
    for stage in select_stages(options):
        status = inspect_stage(stage, context)
        if status.state is State.REFUSED:
            raise UserError(status.reason)
        if status.state is State.LEFT_OUT:
            print(f"stage {stage.number} {stage.name}: {status.reason}, left out", flush=True)
        elif status.state is State.DONE:
            if status.adopted is not None:
                _adopt(stage, context, status.adopted)
            print(f"stage {stage.number} {stage.name}: done before, skipped", flush=True)
        else:
            _run_stage(stage, context, status, execute)
    if context.run.done.is_dir():
        context.fingerprints.save()


def list_stages(options: RecipeOptions) -> Iterator[str]:
    """Yield one line per stage with its state; nothing is run or written."""
    context = load_context(options)
    runs: Stage | None = None
    for stage in select_stages(options):
        status = inspect_stage(stage, context)
        text = status.state.value + (f": {status.reason}" if status.reason else "")
        if status.state is State.DONE and runs is not None:
            text += f"; checked again after stage {runs.number}"
        if status.state is State.RUN:
            runs = stage
        yield f"{stage.number:>2} {stage.name:<10} {text}"


def inspect_stage(stage: Stage, context: Context) -> Status:
    """Decide whether a stage is done, must run, or must not."""
    options = context.options
    if isinstance(stage, FineTuneStage) and not options.fine_tune:
        return Status(state=State.LEFT_OUT, reason="no --fine-tune NAME")
    if isinstance(stage, ReportStage):
        return Status(state=State.RUN, reason="always")
    mark, old = Mark.load(_mark_path(stage, context)), read_old_seconds(_mark_path(stage, context))
    if options.force:
        return _inspect_forced(stage, context)
    if mark is None:
        return _inspect_unmarked(stage, context, stage.reads(context), old)
    if changes := stage.find_changes(mark, context):
        return _judge(stage, context, changes)
    for path in stage.list_outputs(context):
        if not path.exists():
            if path == context.run.finished:
                return Status(state=State.RUN, reason="the training is not finished")
            return Status(state=State.RUN, reason=f"{path} is missing")
    return Status(state=State.DONE)


def _inspect_forced(stage: Stage, context: Context) -> Status:
    """Run a stage whatever its mark, unless a finished training would not read what changed."""
    mark = Mark.load(_mark_path(stage, context))
    changes = stage.find_changes(mark, context) if mark else []
    guarded = [change for change in changes if stage.affects_training(change, context)]
    if stage.number <= TRAIN_STAGE and (ignored := _ignored_by_finished_training(context, guarded)):
        return Status(
            state=State.REFUSED,
            reason=f"stage {stage.number} {stage.name}: {ignored.text}, but the training in "
            f"{context.run.path} is finished and would not read it; {FORCE_ANEW}",
            changes=tuple(changes),
        )
    return Status(state=State.RUN, reason="--force", changes=tuple(changes))


def _ignored_by_finished_training(context: Context, changes: Sequence[Change]) -> Change | None:
    """The first change that resuming a finished training ignores: all but a longer run."""
    if not context.run.finished.is_file() or context.config.train.resume != "auto":
        return None
    return next((change for change in changes if change.key not in RUN_LENGTH), None)


def _inspect_unmarked(stage: Stage, context: Context, reads: Reads, old_seconds: int | None) -> Status:
    """Recognise a stage that was run without ``todm run`` (torchrun) or by an earlier version of it.

    What it has read is known as far as the settings saved by the training go; its inputs are taken to be
    the present ones.
    """
    run = context.run
    is_training = stage.number == TRAIN_STAGE
    if not run.config.is_file() or not (context.is_trained if is_training else old_seconds is not None):
        return Status(state=State.RUN, reason="not done yet")
    saved = context.read_settings(tuple(reads.settings), load_config(run.config, saved=True))
    options = {key: value for key, value in reads.settings.items() if key.startswith("--")}
    changes = find_changes(Reads(settings=options | saved, inputs=reads.inputs), reads)
    if changes:
        return _judge(stage, context, changes)
    if is_training and not run.finished.is_file() and old_seconds is None:
        return Status(state=State.RUN, reason="the training is not finished")
    missing = [path for path in stage.list_outputs(context) if not path.exists() and path != run.finished]
    if missing:
        return Status(state=State.RUN, reason=f"{missing[0]} is missing")
    return Status(state=State.DONE, adopted=make_mark(stage.name, reads, old_seconds or 0))


def _adopt(stage: Stage, context: Context, mark: Mark) -> None:
    """Write the mark of a stage that was finished without one."""
    run = context.run
    if stage.number == TRAIN_STAGE and not run.finished.is_file():  # a training of an earlier version
        newest = run.find_checkpoints()[0]
        write_json(run.finished, {"step": checkpoint_step(newest)})
    mark.save(_mark_path(stage, context))


def _judge(stage: Stage, context: Context, changes: Sequence[Change]) -> Status:
    """Run a changed stage again, unless that makes a trained net outdated."""
    guarded = [change for change in changes if stage.affects_training(change, context)]
    if guarded and context.is_trained:
        start_new = "another --exp-dir starts a new one"
        if context.run.finished.is_file() and any(change.key not in RUN_LENGTH for change in guarded):
            consequence = f"the training is finished: {FORCE_ANEW}"
        elif stage.number == TRAIN_STAGE:
            consequence = (
                "--force continues it from its newest checkpoint with the present settings, " + start_new
            )
        else:
            consequence = "--force prepares the data again and continues the training with them, " + start_new
        return Status(
            state=State.REFUSED,
            reason=f"stage {stage.number} {stage.name}: {guarded[0].text}, and "
            f"{context.run.checkpoints} holds a training that began before; {consequence}",
            changes=tuple(changes),
        )
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return Status(state=State.RUN, reason=changes[0].text + more, changes=tuple(changes))


def _run_stage(stage: Stage, context: Context, status: Status, execute: Execute) -> None:
    """Run all commands of a stage and write its mark."""
    print(f"stage {stage.number} {stage.name}" + (f": {status.reason}" if status.changes else ""), flush=True)
    path = _mark_path(stage, context)
    path.unlink(missing_ok=True)
    old_mark(path).unlink(missing_ok=True)
    stage.clear_outdated(context, status.changes)
    _note(context, f"# stage {stage.number} {stage.name}, {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
    begin, reads = time.monotonic(), stage.reads(context)
    for command in stage.make_commands(context):
        line = _show(command)
        print(f"+ {line}", flush=True)
        _note(context, line)
        if code := execute(make_command_line(command)):
            raise SystemExit(code)
    if stage.number == 0:
        context.fingerprints.forget_parts()
    if not isinstance(stage, ReportStage):
        make_mark(stage.name, reads, time.monotonic() - begin).save(path)
        context.fingerprints.save()


def _mark_path(stage: Stage, context: Context) -> Path:
    return context.run.stage_mark(stage.mark_name(context))


def _show(command: Command) -> str:
    return shlex.join(command if command[0] == "python" else ("todm", *command))


def _note(context: Context, line: str) -> None:
    """Append a line to the commands that the report shows."""
    append_line(context.run.commands, line)
