"""``run.sh`` with a real training: signals, and a training that was started by torchrun."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.prepared import CONFIG, prepare_run
from todm.config import Config, save_config
from todm.layout import RunFolder
from todm.recipe.context import RecipeOptions
from todm.recipe.process import run_process
from todm.recipe.runner import State, Status, inspect_stage
from todm.recipe.settings import load_context
from todm.recipe.stages import STAGES
from todm.train.loop import train

ROOT = Path(__file__).parents[2]
RUN = ROOT / "recipes" / "librispeech" / "run.sh"

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")


def save(config: Config, folder: Path) -> Path:
    path = folder / "conf.yaml"
    save_config(config, path)
    return path


def processes_naming(text: str) -> Iterator[int]:
    """Ids of all processes whose command line holds `text`."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().decode(errors="replace") and int(path.parent.name) != os.getpid():
                yield int(path.parent.name)
        except OSError:
            continue


@needs_bash
@needs_proc
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_training_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    exp = prepare_run(tmp_path)
    run = RunFolder(exp)
    long = replace(CONFIG.train, num_epochs=1000, num_processes=2, valid_interval=-1, log_interval=1)
    conf = save(replace(CONFIG, train=long), tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    words = ["--corpus-dir", str(tmp_path / "corpus"), "--conf", str(conf), "--exp-dir", str(exp)]
    process = subprocess.Popen(
        ["bash", str(RUN), *words, "--stage", "4", "--stop-stage", "4"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background jobs
    )
    try:
        deadline = time.monotonic() + 120
        while not any(run.checkpoints.glob("*.pt")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(60) == code
        assert list(processes_naming(str(exp))) == []
    finally:
        for left in processes_naming(str(exp)):
            os.kill(left, signal.SIGKILL)
    assert not run.stage_mark("4").exists() and not run.finished.exists()


@needs_proc
def test_a_second_signal_kills_a_command_that_ignores_the_first(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn = f"{ignoring}; open({str(ready)!r}, 'w'); time.sleep(99)"
    driver = (
        "import sys; from todm.recipe.process import run_process as run; run([sys.executable, *sys.argv[1:]])"
    )
    process = subprocess.Popen([sys.executable, "-c", driver, "-c", stubborn], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.wait(30) == 137
    assert list(processes_naming(str(ready))) == []


def test_exit_codes_of_commands() -> None:
    assert run_process([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert run_process([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_a_training_started_by_todm_train_is_recognised(tmp_path: Path) -> None:
    exp = prepare_run(tmp_path)
    config = replace(CONFIG, train=replace(CONFIG.train, num_epochs=2, valid_interval=-1))
    conf = save(config, tmp_path)

    def inspect(*words: str) -> Status:
        options = RecipeOptions(
            corpus_dir=tmp_path / "corpus", conf=conf, exp_dir=exp, first=4, overrides=words
        )
        return inspect_stage(STAGES[4], load_context(options))

    train(config, exp, until=2)
    assert inspect().reason == "the training is not finished"
    train(config, exp)
    assert inspect().state is State.DONE
    refused = inspect("--train.optim.lr", "0.5")
    assert refused.state is State.REFUSED and "train.optim.lr was 0.045, is 0.5" in refused.reason


@needs_bash
def test_the_script_passes_everything_on() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(["bash", str(RUN), "--help"], capture_output=True, text=True, timeout=60, env=env)
    assert shown.returncode == 0 and "12 report" in shown.stdout
    bare = subprocess.run(["bash", str(RUN)], capture_output=True, text=True, timeout=60, env=env)
    assert bare.returncode == 2 and "--corpus-dir" in bare.stderr
