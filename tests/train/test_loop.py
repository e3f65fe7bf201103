"""Whole training runs on a toy corpus: exact resumption, several processes, bad input."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from tests.nets import SPACE, make_batch, make_supernet
from tests.prepared import CONFIG
from todm.config import Config, DropoutConfig, SpaceConfig
from todm.config_io import config_from_dict, load_config, save_config
from todm.data.batch import Batch
from todm.dropout import build_policy
from todm.errors import UserError
from todm.nn.supernet import Supernet
from todm.space.spec import SubnetSpec
from todm.train import loop
from todm.train.average import average
from todm.train.checkpoint import list_checkpoints, load_checkpoint
from todm.train.loop import Run, choose_device, seeded_generator, train
from todm.train.step import SandwichStep
from todm.train.sync import World, process_group, reduce_gradients

NewRun = Callable[[str], Path]

BATCHES_PER_EPOCH = 5  # of the toy corpus


def settings(**changes: Any) -> Config:
    """Two epochs of five batches, a checkpoint after every second one."""
    return replace(CONFIG, train=replace(CONFIG.train, **{"num_epochs": 2, "save_interval": 2, **changes}))


def newest(exp: Path) -> dict[str, Any]:
    return load_checkpoint(list_checkpoints(exp / "checkpoints")[0])


def assert_identical(one: Any, other: Any, where: str = "state") -> None:
    """Bit for bit, through dicts, lists and tensors."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_identical(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_identical(left, right, f"{where}[{index}]")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert type(one) is type(other) and one == other, where


class StoppedError(Exception):
    """Stands for a kill."""


def stop_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Run._train_batch

    def train_batch(self: Run, batch: Batch, epoch: int) -> Any:
        if self.step == step:
            raise StoppedError
        return original(self, batch, epoch)

    monkeypatch.setattr(Run, "_train_batch", train_batch)


def losses(exp: Path) -> list[Any]:
    """What metrics.jsonl says of the losses and WERs, without the times."""
    records = [json.loads(line) for line in (exp / "train" / "metrics.jsonl").read_text().splitlines()]
    keys = ("kind", "step", "epoch", "subnets", "losses", "wer", "lr")
    return [{key: record.get(key) for key in keys} for record in records]


@pytest.mark.parametrize(
    ("stop", "resumed_at"),
    [
        (3, 2),  # in the middle of the first epoch
        (5, 5),  # between the epochs
        (7, 6),  # just after the second began
        (9, 8),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    stop: int, resumed_at: int, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings()
    straight = new_run("straight")
    train(config, straight)
    whole = newest(straight)
    assert (whole["step"], whole["epoch"], whole["batch"]) == (2 * BATCHES_PER_EPOCH, 2, 0)
    assert whole["average"]["num_samples"] > 1

    broken = new_run("broken")
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_before(stop, patch)
        train(config, broken)
    assert newest(broken)["step"] == resumed_at
    torch.manual_seed(12345)  # the global generator decides nothing
    train(config, broken)
    after = newest(broken)
    for part in ("model", "optimizer", "average", "schedule", "step", "epoch", "batch"):
        assert_identical(after[part], whole[part], part)
    assert_identical(average(broken), average(straight))
    resumed_interval = [record for record in losses(broken) if record["step"] > resumed_at + 2]
    assert resumed_interval == [record for record in losses(straight) if record["step"] > resumed_at + 2]


def test_loading_in_other_processes_changes_nothing(new_run: NewRun) -> None:
    config = settings(max_steps=3)
    here, there = new_run("here"), new_run("there")
    train(config, here)
    train(replace(config, data=replace(config.data, num_workers=1)), there)
    assert_identical(newest(here)["model"], newest(there)["model"])


def test_seed_decides(new_run: NewRun) -> None:
    one, other = new_run("one"), new_run("other")
    train(settings(max_steps=1), one)
    train(settings(max_steps=1, seed=43), other)
    name = "full.encoder_proj.weight"
    assert not torch.equal(newest(one)["model"][name], newest(other)["model"][name])
    device = torch.device("cpu")
    draws = {
        (seed, step, rank): torch.rand(1, generator=seeded_generator(device, seed, step, rank)).item()
        for seed in (0, 1)
        for step in (0, 1)
        for rank in (0, 1)
    }
    assert len(set(draws.values())) == 8


def test_what_a_run_leaves(new_run: NewRun) -> None:
    exp = new_run("exp")
    config = settings(keep_checkpoints=2)
    train(config, exp)
    assert load_config(exp / "config.yaml") == config
    state = newest(exp)
    assert config_from_dict(state["config"]) == config
    assert state["vocab_size"] == len((exp / "data" / "lang" / "tokens.txt").read_text().splitlines())
    assert [path.name for path in list_checkpoints(exp / "checkpoints")] == [
        "step-00000010.pt",
        "step-00000008.pt",
    ]
    stats = json.loads((exp / "data" / "stats.json").read_text())
    assert state["model"]["full.subsampling.mean"].tolist() == pytest.approx(stats["mean"])
    records = losses(exp)
    assert [record["step"] for record in records if record["wer"]] == [5, 10]
    ends = {"min", "max", "min-streaming", "max-streaming"}
    assert all(record["wer"].keys() == ends for record in records if record["wer"])
    assert any((exp / "tensorboard").iterdir())
    # A finished run that is started again does nothing more.
    train(config, exp)
    assert_identical(newest(exp), state)


def test_max_steps_and_going_on_after_it(new_run: NewRun) -> None:
    exp = new_run("exp")
    train(settings(max_steps=3), exp)
    assert (newest(exp)["step"], newest(exp)["epoch"], newest(exp)["batch"]) == (3, 0, 3)
    train(settings(max_steps=7), exp)
    assert (newest(exp)["step"], newest(exp)["epoch"], newest(exp)["batch"]) == (7, 1, 2)


def test_beginning_anew_replaces_the_old_run_when_it_has_something_of_its_own(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = new_run("exp")
    train(settings(max_steps=6), exp)
    anew = settings(max_steps=4, resume="never", seed=7)
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_before(1, patch)
        train(anew, exp)
    assert newest(exp)["step"] == 6  # nothing to put in its place yet
    train(anew, exp)
    assert [path.name for path in list_checkpoints(exp / "checkpoints")] == [
        "step-00000004.pt",
        "step-00000002.pt",
    ]
    assert config_from_dict(newest(exp)["config"]).train.seed == 7


def test_a_longer_run_averages_its_own_end_only(new_run: NewRun) -> None:
    exp = new_run("longer")
    train(settings(average_from=0.5, average_period=1), exp)
    assert newest(exp)["average"]["num_samples"] == BATCHES_PER_EPOCH
    longer = settings(average_from=0.75, average_period=1)
    train(replace(longer, train=replace(longer.train, num_epochs=4)), exp)
    assert newest(exp)["step"] == 4 * BATCHES_PER_EPOCH
    assert newest(exp)["average"]["num_samples"] == BATCHES_PER_EPOCH


def test_a_named_checkpoint_is_continued(new_run: NewRun) -> None:
    one, other = new_run("one"), new_run("other")
    train(settings(max_steps=4), one)
    checkpoint = one / "checkpoints" / "step-00000002.pt"
    train(settings(max_steps=4, resume=str(checkpoint)), other)
    assert_identical(newest(other)["model"], newest(one)["model"])
    with pytest.raises(UserError, match=r"nothing\.pt: no such checkpoint"):
        train(settings(resume=str(one / "nothing.pt")), other)


def test_missing_data_is_the_users_to_mend(new_run: NewRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="todm prepare"):
        train(settings(), tmp_path / "nothing")
    exp = new_run("exp")
    (exp / "data" / "stats.json").rename(exp / "stats.json")
    with pytest.raises(UserError, match=r"stats\.json: missing; run 'todm prepare'"):
        train(settings(), exp)
    (exp / "stats.json").rename(exp / "data" / "stats.json")
    (exp / "data" / "manifests" / "train.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"train\.jsonl\.gz: no such manifest; run 'todm prepare'"):
        train(settings(), exp)


def test_a_checkpoint_of_another_architecture_is_refused(new_run: NewRun) -> None:
    exp = new_run("exp")
    train(settings(max_steps=2), exp)
    before = newest(exp)
    wider = replace(settings(), model=replace(CONFIG.model, d_model=20))
    with pytest.raises(UserError, match=r"step-00000002\.pt.*model\.d_model 16 there, 20 here"):
        train(wider, exp)
    deeper = replace(settings(), space=SpaceConfig(depths=(2, 3), ffn_dims=SPACE.ffn_dims, modes=SPACE.modes))
    with pytest.raises(UserError, match=r"space\.depths"):
        train(deeper, exp)
    assert_identical(newest(exp), before)


def test_an_impossible_space_is_refused_before_anything_is_written(new_run: NewRun) -> None:
    exp = new_run("exp")
    backwards = replace(settings(), space=SpaceConfig(depths=(3, 1), ffn_dims=(8,)))
    with pytest.raises(UserError, match=r"space\.depths"):
        train(backwards, exp)
    assert not (exp / "checkpoints").exists() and not (exp / "train").exists()


def test_full_disk_keeps_the_last_good_checkpoint(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("exp")
    original = torch.save

    def save(state: Any, file: Any) -> None:
        if state["step"] > 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(state, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match=r"step-00000004\.pt: no space left"):
        train(settings(), exp)
    assert [path.name for path in (exp / "checkpoints").iterdir()] == ["step-00000002.pt"]
    monkeypatch.undo()
    train(settings(max_steps=3), exp)
    assert newest(exp)["step"] == 3


def test_devices() -> None:
    assert choose_device("cpu", World()) == torch.device("cpu")
    with pytest.raises(UserError, match=r"train\.device: 'tpu'"):
        choose_device("tpu", World())
    if not torch.cuda.is_available():
        assert choose_device("auto", World()) == torch.device("cpu")
        with pytest.raises(UserError, match=r"train\.device: cuda"):
            choose_device("cuda", World())


# ---- two processes ----


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
    SubnetSpec(layers=(0, 2), ffn_dims=(24, 24), mode="offline"),
    SubnetSpec(layers=(0, 2), ffn_dims=(8, 16), mode="streaming"),
    SubnetSpec(layers=(2,), ffn_dims=(16,), mode="offline"),
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


def whole_run(rank: int, port: int, exp: str) -> None:
    join(rank, port)
    seen: list[Any] = []
    original = Run._train_batch

    def train_batch(self: Run, batch: Batch, epoch: int) -> Any:
        seen.append(batch.ids)
        return original(self, batch, epoch)

    loop.Run._train_batch = train_batch  # type: ignore[method-assign]
    final: dict[str, Tensor] = {}
    close = Run.close

    def keep(self: Run) -> None:
        final.update(self.net.state_dict())
        close(self)

    loop.Run.close = keep  # type: ignore[method-assign]
    train(settings(max_steps=4), Path(exp))
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
    spawn(whole_run, args=(free_port(), str(exp)), nprocs=2)
    one, other = (torch.load(exp / f"rank-{rank}.pt") for rank in range(2))
    assert_identical(one["weights"], other["weights"])
    assert_identical(newest(exp)["model"], one["weights"])
    assert len(one["seen"]) == len(other["seen"]) == 4
    assert not set(one["seen"]) & set(other["seen"])


def test_sigterm_saves_the_batch_at_hand_and_nothing_is_lost(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(save_interval=0)
    straight, told = new_run("straight"), new_run("told")
    train(config, straight)
    original = Run._train_batch

    def train_batch(self: Run, batch: Batch, epoch: int) -> Any:
        result = original(self, batch, epoch)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return result

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(Run, "_train_batch", train_batch)
        train(config, told)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert newest(told)["step"] == 3
    train(config, told)
    for part in ("model", "optimizer", "average", "step"):
        assert_identical(newest(told)[part], newest(straight)[part], part)


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


def test_a_bad_batch_is_skipped_noted_and_counted(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("bad")
    original = Run._train_batch
    lost: list[tuple[str, ...]] = []

    def train_batch(self: Run, batch: Batch, epoch: int) -> Any:
        if self.step == 1:
            lost.append(batch.ids)
            batch = replace(batch, feats=torch.full_like(batch.feats, math.nan))
        return original(self, batch, epoch)

    monkeypatch.setattr(Run, "_train_batch", train_batch)
    train(settings(log_interval=3), exp)
    assert newest(exp)["step"] == 2 * BATCHES_PER_EPOCH
    (line,) = (exp / "train" / "skipped-batches.rank0.jsonl").read_text().splitlines()
    noted = json.loads(line)
    assert noted["step"] == 1
    assert lost == [tuple(noted["ids"])]
    intervals = [record for record in records(exp) if record["kind"] == "train"]
    assert [record["skipped"] for record in intervals] == [1, *[0] * (len(intervals) - 1)]
    assert all(math.isfinite(loss) for record in intervals for loss in record["subnets"].values())


def test_a_run_that_only_skips_ends_with_a_sentence(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("lost")
    monkeypatch.setattr(loop, "MAX_BAD_STEPS", 3)
    original = Run._train_batch

    def train_batch(self: Run, batch: Batch, epoch: int) -> Any:
        return original(self, replace(batch, feats=torch.full_like(batch.feats, math.nan)), epoch)

    monkeypatch.setattr(Run, "_train_batch", train_batch)
    with pytest.raises(
        UserError, match=r"skipped-batches\.rank0\.jsonl: the last 3 steps had no finite gradient"
    ):
        train(settings(), exp)


def records(exp: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (exp / "train" / "metrics.jsonl").read_text().splitlines()]
