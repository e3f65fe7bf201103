"""Two processes train one model, as one process would on the joined batches."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from tests.nets import SPACE, make_batch, make_supernet
from tests.prepared import CONFIG
from tests.train.runs import NewRun, assert_identical, newest, settings
from todm.config import Config, DropoutConfig, save_config
from todm.data.batch import Batch
from todm.dropout import build_policy
from todm.nn.supernet import Supernet
from todm.space.spec import SubnetSpec
from todm.train import loop
from todm.train.loop import Trainer, train
from todm.train.step import SandwichStep
from todm.train.sync import World, process_group, reduce_gradients


def rows(batch: Batch, part: slice) -> Batch:
    return Batch(
        feats=batch.feats[part],
        feat_lens=batch.feat_lens[part],
        labels=batch.labels[part],
        label_lens=batch.label_lens[part],
        texts=batch.texts[part],
        ids=batch.ids[part],
    )


# The middle layer runs in none of them.
SPECS = [
    SubnetSpec(layers=(0, 2), widths={"ffn_dim": (24, 24)}, mode="offline"),
    SubnetSpec(layers=(0, 2), widths={"ffn_dim": (8, 16)}, mode="streaming"),
    SubnetSpec(layers=(2,), widths={"ffn_dim": (16,)}, mode="offline"),
]


def step_gradients(batch: Batch, together: bool) -> dict[str, Tensor]:
    config = replace(CONFIG.train, dropout=DropoutConfig(rate=0.0))
    net: Supernet = make_supernet()
    run = SandwichStep(net, config, build_policy(config.dropout, SPACE))
    run(batch, SPECS, step=1000, generator=torch.Generator().manual_seed(0))
    if together:
        reduce_gradients(net.parameters())
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def join(rank: int, port: int) -> tuple[World, torch.device]:
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_RANK=str(rank),
    )
    torch.set_num_threads(1)
    return World.from_env(), torch.device("cpu")


def half_a_step(rank: int, port: int, folder: str) -> None:
    world, device = join(rank, port)
    batch = make_batch([70, 52, 66, 40], [5, 3, 2, 4])
    with process_group(world, device=device):
        mine = rows(batch, slice(0, 1) if rank == 0 else slice(1, 4))
        torch.save(step_gradients(mine, together=True), Path(folder) / f"{rank}.pt")


def whole_run(rank: int, port: int, exp: str, config: Config) -> None:
    join(rank, port)
    seen: list[Any] = []
    original = Trainer._train_batch

    def train_batch(self: Trainer, batch: Batch) -> Any:
        seen.append(batch.ids)
        return original(self, batch)

    loop.Trainer._train_batch = train_batch  # type: ignore[method-assign]
    final: dict[str, Tensor] = {}
    close = Trainer.close

    def keep(self: Trainer) -> None:
        final.update(self.state.net.state_dict())
        close(self)

    loop.Trainer.close = keep  # type: ignore[method-assign]
    train(config, Path(exp))
    torch.save({"weights": final, "seen": seen}, Path(exp) / f"rank-{rank}.pt")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_take_the_step_of_one_on_the_joined_batch(tmp_path: Path) -> None:
    spawn(half_a_step, args=(free_port(), str(tmp_path)), nprocs=2)
    wanted = step_gradients(make_batch([70, 52, 66, 40], [5, 3, 2, 4]), together=False)
    assert not any(name.startswith("full.layers.1.ffn") for name in wanted)
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt")
        assert got.keys() == wanted.keys()
        for name, grad in wanted.items():
            torch.testing.assert_close(got[name], grad, rtol=0.0, atol=2e-5 * float(grad.abs().max()))


def test_two_processes_train_one_model(new_run: NewRun) -> None:
    exp = new_run("exp")
    spawn(whole_run, args=(free_port(), str(exp), settings(max_steps=4)), nprocs=2)
    one, other = (torch.load(exp / f"rank-{rank}.pt") for rank in range(2))
    assert_identical(one["weights"], other["weights"])
    assert_identical(newest(exp)["model"], one["weights"])
    assert len(one["seen"]) == len(other["seen"]) == 4
    assert not set(one["seen"]) & set(other["seen"])


def test_sigterm_to_the_starter_of_two_processes_saves_too(new_run: NewRun) -> None:
    exp = new_run("two")
    config = settings(num_processes=2, num_epochs=1000, save_interval=0, log_interval=1)
    save_config(config, exp / "config.yaml")
    command = [sys.executable, "-m", "todm", "train", "--exp-dir", str(exp)]
    environ = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    shown = []
    for line in process.stderr:
        shown.append(line)
        if "step 2 " in line:
            process.send_signal(signal.SIGTERM)
            break
    shown += process.stderr.readlines()
    assert process.wait() == 143, "".join(shown)
    assert any("stopped by SIGTERM after step" in line for line in shown)
    assert newest(exp)["step"] >= 2


def wait_both(commands: list[subprocess.Popen[str]]) -> list[str]:
    messages = [process.communicate(timeout=600)[1] for process in commands]
    assert [process.returncode for process in commands] == [2, 2], messages
    return [[line for line in text.splitlines() if line.startswith("todm: ")][-1] for text in messages]


def start_alone(exp: Path, rank: int, port: int) -> subprocess.Popen[str]:
    """One of two processes of a run, on a folder of its own."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "todm", "train", "--exp-dir", str(exp)]
    return subprocess.Popen(command, env={**os.environ, **place}, stderr=subprocess.PIPE, text=True)


def test_folders_that_differ_are_refused(new_run: NewRun) -> None:
    folders = [new_run("one"), new_run("other")]
    train(settings(max_steps=2), folders[0])  # only there is a checkpoint
    for exp in folders:
        save_config(settings(), exp / "config.yaml")
    port = free_port()
    messages = wait_both([start_alone(exp, rank, port) for rank, exp in enumerate(folders)])
    for exp, sentence in zip(folders, messages, strict=True):
        assert sentence.startswith(f"todm: {exp}: the processes do not see the same files there")
        assert "checkpoint's step [2, 0]" in sentence


BROKEN = """
import os
if os.environ.get("RANK") == "1":
    from todm.errors import UserError
    from todm.train.loop import Trainer

    def fail(*_words):
        raise UserError("shard 7: cannot be read; copy it again")

    Trainer._train_batch = fail
"""


def test_the_starter_reports_why_another_process_failed(new_run: NewRun) -> None:
    exp = new_run("exp")
    save_config(settings(num_processes=2), exp / "config.yaml")
    (exp / "sitecustomize.py").write_text(BROKEN)
    path = os.pathsep.join([str(exp), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "todm", "train", "--exp-dir", str(exp)]
    found = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
    assert found.returncode == 2, found.stderr
    assert "todm: another of the 2 processes has ended" in found.stderr
    assert found.stderr.splitlines()[-1] == "todm: process 1: shard 7: cannot be read; copy it again"
    assert "Traceback" not in found.stderr
