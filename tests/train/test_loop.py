"""Whole training runs on a toy corpus: exact resumption, what they leave, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nets import SPACE
from tests.prepared import CONFIG
from tests.train.runs import BATCHES_PER_EPOCH, NewRun, assert_identical, newest, records, settings
from todm.config import DropoutConfig, DropoutScheduleConfig, SpaceConfig, config_from_dict, load_config
from todm.data.batch import Batch
from todm.decode.evaluate import transcribe_batches
from todm.errors import UserError
from todm.extract import extract
from todm.files import read_json
from todm.layout import RunFolder, find_checkpoints
from todm.nn.supernet import Supernet
from todm.runtime.constants import BLANK_ID
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec
from todm.train.average import average
from todm.train.loop import Trainer, seed_generator, train
from todm.train.sync import World, choose_device


class StoppedError(Exception):
    """Stands for a kill."""


def stop_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer._train_batch

    def train_batch(self: Trainer, batch: Batch) -> Any:
        if self.state.step == step:
            raise StoppedError
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_train_batch", train_batch)


def losses(exp: Path) -> list[Any]:
    """Losses and WERs in metrics.jsonl, without times."""
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


@pytest.mark.parametrize("until", [3, BATCHES_PER_EPOCH])
def test_a_run_ended_early_goes_on_as_if_nothing_had_been(until: int, new_run: NewRun) -> None:
    # A schedule that counts validations: one more would show.
    dropout = DropoutConfig(schedule=DropoutScheduleConfig(name="validation"))
    config = settings(dropout=dropout)
    straight, broken = new_run("straight"), new_run("broken")
    train(config, straight)
    train(config, broken, until=until)
    assert newest(broken)["step"] == until
    assert not RunFolder(broken).finished.exists()
    train(config, broken)
    assert read_json(RunFolder(broken).finished)["step"] == 2 * BATCHES_PER_EPOCH
    for part in ("model", "optimizer", "average", "schedule", "dropout", "step", "epoch", "batch"):
        assert_identical(newest(broken)[part], newest(straight)[part], part)
    validations = [
        [one["step"] for one in records(exp) if one["kind"] == "valid"] for exp in (straight, broken)
    ]
    assert validations[0] == validations[1] == [BATCHES_PER_EPOCH, 2 * BATCHES_PER_EPOCH]


def test_validation_counts_for_no_interval_and_may_be_left_out(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0

    def takes(seconds: float, function: Any) -> Any:
        def timed(*args: Any) -> Any:
            nonlocal clock
            clock += seconds
            return function(*args)

        return timed

    monkeypatch.setattr("todm.train.meter.time.monotonic", lambda: clock)
    monkeypatch.setattr(Trainer, "_train_batch", takes(1.0, Trainer._train_batch))
    monkeypatch.setattr(Trainer, "_validate", takes(1000.0, Trainer._validate))
    often, never = new_run("often"), new_run("never")
    train(settings(log_interval=2, valid_interval=3), often)
    train(settings(valid_interval=-1), never)
    lines = records(often)
    assert sum(line["seconds"] for line in lines if line["kind"] == "train") == 2 * BATCHES_PER_EPOCH
    assert [line["step"] for line in lines if line["kind"] == "valid"] == [3, 5, 6, 9, 10]
    assert all(line["kind"] == "train" for line in records(never))


@pytest.mark.parametrize(("of_average", "penalty"), [(False, 0.0), (True, 2.0)])
def test_validation_decodes_the_configured_weights(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch, of_average: bool, penalty: float
) -> None:
    decoded: dict[SubnetSpec, dict[str, torch.Tensor]] = {}  # at the last validation

    def listen(net: Any, *args: Any, **kwargs: Any) -> Any:
        decoded[net.spec] = {name: value.clone() for name, value in net.state_dict().items()}
        return transcribe_batches(net, *args, **kwargs)

    monkeypatch.setattr("todm.train.validation.transcribe_batches", listen)
    exp = new_run("run")
    averaging = {"average_from": 0.2, "average_period": 1, "average_window": 3}
    config = settings(valid_average=of_average, valid_blank_penalty=penalty, **averaging)
    train(config, exp)
    state = newest(exp)
    net = Supernet(config.model, SearchSpace.from_config(config), state["vocab_size"])
    net.load_state_dict(average(exp) if of_average else state["model"])
    for spec in (net.space.max(), net.space.min()):
        expected = extract(net, spec).state_dict()
        expected["joiner.output.bias"][BLANK_ID] -= penalty
        assert_identical(expected, decoded[spec])


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
        (seed, step, rank): torch.rand(1, generator=seed_generator(device, seed, step, rank)).item()
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
    assert [path.name for path in find_checkpoints(exp / "checkpoints")] == [
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
    # Settings that affect no finished training may change, others may not.
    train(replace(config, search=replace(config.search, evaluations=7)), exp)
    saved = (exp / "config.yaml").read_text()
    assert "evaluations: 7" in saved
    with pytest.raises(UserError, match=r"train\.optim\.lr was .*, is 0\.5, but .* --train\.resume never"):
        train(replace(config, train=replace(config.train, optim=replace(config.train.optim, lr=0.5))), exp)
    assert (exp / "config.yaml").read_text() == saved and RunFolder(exp).finished.is_file()


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
    assert [path.name for path in find_checkpoints(exp / "checkpoints")] == [
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
    # Its last checkpoint leaves no step that would read another setting.
    last, saved = one / "checkpoints" / "step-00000004.pt", (other / "config.yaml").read_text()
    with pytest.raises(
        UserError, match=r"train\.seed was 42, is 7, but .*4\.pt is finished .*earlier checkpoint"
    ):
        train(settings(max_steps=4, resume=str(last), seed=7), other)
    assert (other / "config.yaml").read_text() == saved and RunFolder(other).finished.is_file()


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
    deeper = replace(
        settings(), space=SpaceConfig(depths=(2, 3), widths=dict(SPACE.widths), modes=SPACE.modes)
    )
    with pytest.raises(UserError, match=r"space\.depths"):
        train(deeper, exp)
    assert_identical(newest(exp), before)


def test_an_impossible_space_is_refused_before_anything_is_written(new_run: NewRun) -> None:
    exp = new_run("exp")
    backwards = replace(settings(), space=SpaceConfig(depths=(3, 1), widths={"ffn_dim": (8,)}))
    with pytest.raises(UserError, match=r"space\.depths"):
        train(backwards, exp)
    assert not (exp / "checkpoints").exists() and not (exp / "train").exists()


def test_devices() -> None:
    assert choose_device("cpu", World()) == torch.device("cpu")
    with pytest.raises(UserError, match=r"train\.device: 'tpu'"):
        choose_device("tpu", World())
    if not torch.cuda.is_available():
        assert choose_device("auto", World()) == torch.device("cpu")
        with pytest.raises(UserError, match=r"train\.device: cuda"):
            choose_device("cuda", World())


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda", World(rank=2, size=4)) == torch.device("cuda", 0)
    with pytest.raises(UserError, match="2 processes were started on this machine, and torch finds 1 GPUs"):
        choose_device("auto", World(rank=1, size=2, local_rank=1))
    # Where each process knows of the others, all of them choose the same.
    both = [World(rank=rank, size=2, local_rank=rank, local_size=2) for rank in range(2)]
    assert [choose_device("auto", world) for world in both] == [torch.device("cpu")] * 2
    with pytest.raises(UserError, match="2 processes were started"):
        choose_device("cuda", both[1])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [choose_device("auto", world).index for world in both] == [0, 1]
