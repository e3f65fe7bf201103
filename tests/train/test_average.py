"""Running average and averages of checkpoints, by hand and through the command."""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from todm.commands import average as command
from todm.config import Config, ModelConfig, SpaceConfig, save_config
from todm.errors import UserError
from todm.layout import checkpoint_path
from todm.train.average import RunningAverage, average, mean_weights
from todm.train.checkpoint import save_checkpoint


class Net(nn.Module):
    """A float parameter, a half-precision buffer and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("low", torch.zeros(2, dtype=torch.bfloat16))
        self.register_buffer("count", torch.tensor(0))

    def advance(self, step: int) -> None:
        """New weights, a function of the step only."""
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            self.weight.copy_(torch.randn(3, generator=generator) * 1000.0 ** (step % 3))
            self.get_buffer("count").fill_(step)
            self.get_buffer("low").fill_(step)


def test_mean_of_every_period_since_the_start() -> None:
    net, running = Net(), RunningAverage(start_step=10, period=3)
    samples: list[Tensor] = []
    for step in range(1, 31):
        net.advance(step)
        taken = running.update(net, step)
        assert taken == (step in (13, 16, 19, 22, 25, 28))
        if taken:
            samples.append(net.weight.detach().double().clone())
    weights = running.weights()
    assert running.num_samples == len(samples) == 6
    assert torch.equal(weights["weight"], torch.stack(samples).sum(0).div(6).float())
    assert weights["low"].dtype == torch.bfloat16 and weights["low"][0] == (13 + 28) / 2
    assert weights["count"].item() == 28 and weights["count"].dtype == torch.int64


def test_older_samples_fade_in_a_window() -> None:
    net, running = Net(), RunningAverage(start_step=0, period=5, window=20)
    samples: list[Tensor] = []
    shares: list[float] = []
    for step in range(5, 105, 5):
        net.advance(step)
        assert running.update(net, step)
        samples.append(net.weight.detach().double().clone())
        shares = [share * 0.75 for share in shares] + [1.0]
    expected = sum(share * sample for share, sample in zip(shares, samples, strict=True)) / sum(shares)
    assert torch.allclose(running.weights()["weight"].double(), torch.as_tensor(expected), rtol=1e-6)
    constant = RunningAverage(start_step=0, period=5, window=20)
    for step in range(5, 50, 5):
        constant.update(net, step)
    assert torch.equal(constant.weights()["weight"], net.weight)  # from the first sample on: no bias to 0
    resumed = RunningAverage(start_step=0, period=5, window=20)
    resumed.load_state_dict(running.state_dict())
    for average_of_run in (running, resumed):
        net.advance(105)
        average_of_run.update(net, 105)
    assert torch.equal(resumed.weights()["weight"], running.weights()["weight"])


def test_a_checkpoint_of_0_1_0_has_a_plain_mean() -> None:
    net, running = Net(), RunningAverage(start_step=0, period=1)
    for step in (1, 2, 3):
        net.advance(step)
        running.update(net, step)
    state = running.state_dict()
    del state["weight"]
    resumed = RunningAverage(start_step=0, period=1)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.weights()["weight"], running.weights()["weight"])


def test_average_keeps_its_own_copy() -> None:
    # In float64 there is nothing to convert, and a reference would be kept by mistake.
    net, running = Net().double(), RunningAverage(start_step=0, period=1)
    net.advance(1)
    running.update(net, 1)
    before = {name: value.clone() for name, value in running.weights().items()}
    saved = running.state_dict()
    net.advance(2)
    assert all(torch.equal(before[name], value) for name, value in running.weights().items())
    running.update(net, 2)
    assert saved["num_samples"] == 1
    assert torch.equal(saved["sums"]["weight"], before["weight"])


@pytest.mark.parametrize("cut", [3, 12, 13, 20])
def test_resume_is_bit_exact(cut: int) -> None:
    net, whole = Net(), RunningAverage(start_step=5, period=4)
    resumed = whole
    for step in range(1, 40):
        net.advance(step)
        whole.update(net, step)
        if resumed is not whole:
            resumed.update(net, step)
        if step == cut:
            file = io.BytesIO()
            torch.save(whole.state_dict(), file)
            file.seek(0)
            resumed = RunningAverage(start_step=5, period=4)
            resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed is not whole and resumed.num_samples == whole.num_samples == 8
    for name, value in whole.weights().items():
        assert torch.equal(value, resumed.weights()[name])


def test_mean_weights() -> None:
    mean = mean_weights(
        [
            {"a": torch.tensor([1.0, 2.0]), "n": torch.tensor(7)},
            {"a": torch.tensor([3.0, 5.0]), "n": torch.tensor(9)},
        ]
    )
    assert mean["a"].tolist() == [2.0, 3.5] and mean["a"].dtype == torch.float32
    assert mean["n"].item() == 7
    with pytest.raises(UserError, match="their architectures differ"):
        mean_weights([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])


def write_run(exp_dir: Path, values: dict[int, float], *, running: float | None = None) -> None:
    """Checkpoints whose weights are constant, by step, all with the same running average."""
    for step, value in values.items():
        kept: dict[str, Any] = RunningAverage(start_step=0, period=1).state_dict()
        if running is not None:
            sums = {"w": torch.full((2,), 4 * running, dtype=torch.float64)}
            kept = {"num_samples": 4, "sums": sums, "dtypes": {"w": "float32"}}
        state = {
            "model": {"w": torch.full((2,), value)},
            "average": kept,
            "step": step,
            "config": Config().to_dict(),
            "vocab_size": 4,
        }
        save_checkpoint(checkpoint_path(exp_dir / "checkpoints", step), state)


def test_average_of_a_run(tmp_path: Path) -> None:
    write_run(tmp_path, {1: 1.0, 2: 2.0, 30: 6.0}, running=9.0)
    assert average(tmp_path)["w"].tolist() == [9.0, 9.0]
    assert average(tmp_path)["w"].dtype == torch.float32
    assert average(tmp_path, from_running=False)["w"].tolist() == [6.0, 6.0]
    assert average(tmp_path, from_running=False, last=2)["w"].tolist() == [4.0, 4.0]
    assert average(tmp_path, from_running=False, last=10)["w"].tolist() == [3.0, 3.0]
    os.truncate(checkpoint_path(tmp_path / "checkpoints", 2), 100)
    assert average(tmp_path, from_running=False, last=2)["w"].tolist() == [3.5, 3.5]


def test_short_run_falls_back_on_its_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_run(tmp_path, {1: 1.0, 2: 2.0})
    assert average(tmp_path)["w"].tolist() == [2.0, 2.0]
    assert "before its running average began" in caplog.text


def test_nothing_to_average(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoints; train first"):
        average(tmp_path)
    with pytest.raises(UserError, match="--last"):
        average(tmp_path, from_running=False, last=0)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_command_writes_a_supernet_folder(tmp_path: Path) -> None:
    from todm.model_dir import load_supernet
    from todm.nn.supernet import Supernet
    from todm.space.space import SearchSpace

    config = Config(
        model=ModelConfig(
            num_layers=1,
            d_model=8,
            num_heads=4,
            head_dim=2,
            state_dim=2,
            subsampling_channels=2,
            predictor_dim=4,
            joiner_dim=4,
        ),
        space=SpaceConfig(depths=(1,), widths={"ffn_dim": (4, 8)}),
    )
    lang = tmp_path / "data" / "lang"
    lang.mkdir(parents=True)
    (lang / "tokens.txt").write_text("<blk> 0\n<sos/eos> 1\n<unk> 2\na 3\n")
    (lang / "bpe.model").write_bytes(b"model")
    (lang / "bpe.vocab").write_text("vocab")
    save_config(config, tmp_path / "config.yaml")
    net = Supernet(config.model, SearchSpace.from_config(config), 4)
    running = RunningAverage(start_step=0, period=1)
    running.update(net, 1)
    with torch.no_grad():
        for param in net.parameters():
            param.add_(2.0)
    running.update(net, 2)
    state = {
        "model": net.state_dict(),
        "average": running.state_dict(),
        "step": 2,
        "config": config.to_dict(),
        "vocab_size": 4,
    }
    save_checkpoint(checkpoint_path(tmp_path / "checkpoints", 2), state)

    command.run(parse(str(tmp_path)))
    loaded, loaded_config = load_supernet(tmp_path / "supernet")
    assert loaded_config == config
    assert (tmp_path / "supernet" / "bpe.model").read_bytes() == b"model"
    for (name, new), old in zip(loaded.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(new, old - 1.0, msg=name)

    command.run(parse(str(tmp_path), "--last", "1"))
    loaded, _ = load_supernet(tmp_path / "supernet")
    for new, old in zip(loaded.parameters(), net.parameters(), strict=True):
        assert torch.equal(new, old)


def test_command_on_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        command.run(parse(str(tmp_path / "absent")))
