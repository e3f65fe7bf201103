"""Train a supernet in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from todm.api.results import AverageResult, FineTuneResult, TrainResult
from todm.api.settings import replace_settings
from todm.config import Config, load_config, save_config
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError
from todm.launch import run_processes, started_by_launcher
from todm.layout import RunFolder, checkpoint_step
from todm.model_dir import save_supernet
from todm.train.average import finished_weights
from todm.train.calibrate import calibrate_run
from todm.train.finetune import compare_tuned, find_subnet, fine_tune
from todm.train.loop import train
from todm.train.sync import World


def train_run(config: Config, exp_dir: Path, *, until: int = 0) -> TrainResult:
    """Train the supernet of a run, from its newest checkpoint if there is one.

    With ``train.num_processes`` above 1, and outside of torchrun, this starts that many processes
    ``todm train`` and waits for them; the config is passed in ``EXP/train/launch.yaml``.

    Args:
        config: resolved config.
        exp_dir: run folder with prepared data.
        until: stop after this many batches; 0 trains to the end.

    Raises:
        UserError: no prepared data, or settings that do not fit it.
        ProcessesFailedError: a process failed; its message is on standard error.
    """
    run = RunFolder(exp_dir)
    check_data(exp_dir)
    check_until(until)
    if config.train.num_processes > 1 and not started_by_launcher():
        Tokenizer.load(run.lang)  # reports bad data once, not once per process
        save_config(config, run.launch_config)
        words = ["train", "--conf", str(run.launch_config), "--exp-dir", str(exp_dir), "--until", str(until)]
        run_processes(words, config.train.num_processes, run)
    else:
        train(config, exp_dir, until=until)
    newest = run.find_checkpoints()[0]
    return TrainResult(exp_dir=exp_dir, step=checkpoint_step(newest) or 0, checkpoint=newest)


def check_data(exp_dir: Path, conf: Path | None = None) -> None:
    """Raise `UserError` when the run folder has no prepared data; the advice names `conf`."""
    data = RunFolder(exp_dir).data
    if not data.is_dir():
        command = f"todm prepare --conf {conf or 'FILE'} --corpus-dir DIR --exp-dir {exp_dir}"
        raise UserError(f"{data}: missing; run '{command}' first")


def check_until(until: int) -> None:
    """Raise `UserError` for an impossible last step of a call."""
    if until < 0:
        raise UserError(f"--until: must not be negative, got {until}; 0 trains to the end")


def fine_tune_run(
    exp_dir: Path,
    name: str,
    overrides: Sequence[str] = (),
    *,
    conf: Path | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> FineTuneResult:
    """Continue training one subnet on its own and compare it with the original.

    Args:
        exp_dir: run folder.
        name: folder name of the subnet.
        overrides: dotted settings, as on the command line.
        conf: config that replaces the run's.
        on_start: called when the input has been checked.
    """
    check_data(exp_dir)
    find_subnet(exp_dir, name)
    on_start()
    folder = fine_tune(exp_dir, name, overrides, conf=conf)
    wer = compare_tuned(exp_dir, name) if World.from_env().is_main else {}
    return FineTuneResult(folder=folder, wer=wer)


def average_run(
    exp_dir: Path, *, last: int | None = None, calibrate_utterances: int | None = None
) -> AverageResult:
    """Write the averaged supernet of a run to ``EXP/supernet``.

    Args:
        exp_dir: run folder.
        last: average this many newest checkpoints; None takes the running average kept in training.
        calibrate_utterances: in place of the run's ``train.calibrate_utterances``.

    Raises:
        UserError: no training there, or too few checkpoints.
    """
    if not exp_dir.is_dir():
        raise UserError(f"{exp_dir}: no such run folder; give the --exp-dir of a training")
    run = RunFolder(exp_dir)
    if not run.config.is_file():
        raise UserError(f"{exp_dir}: no training there; run 'todm train --exp-dir {exp_dir}' first")
    config = load_config(run.config, saved=True)
    if calibrate_utterances is not None:
        config = replace_settings(config, "train", {"calibrate_utterances": calibrate_utterances})
    weights = finished_weights(
        exp_dir, config.train.dropout, from_running=last is None, last=1 if last is None else last
    )
    calibration = None
    if config.train.calibrate_utterances:
        calibration = calibrate_run(weights, config, exp_dir)
    save_supernet(run.supernet, weights, config, run.lang)
    num_weights = sum(value.numel() for value in weights.values())
    return AverageResult(folder=run.supernet, num_weights=num_weights, calibration=calibration)
