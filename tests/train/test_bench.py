"""Measuring training: what is measured, not how long it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.prepared import CONFIG
from todm.cli import main
from todm.config_io import save_config
from todm.train.bench import BatchShape, measure, peak_bytes, split_parts
from todm.train.step import PART

CPU = torch.device("cpu")


def test_works_run_in_turn_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []
    costs = measure({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, 3)  # type: ignore[misc]
    assert calls[-6:] == ["a", "b"] * 3 and len(calls) > 6
    assert all(len(cost.seconds) == 3 and cost.median > 0 for cost in costs.values())


def test_peak_counts_what_stands_at_once() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.zeros(2**20)

    def together() -> None:
        assert len([torch.zeros(2**20) for _ in range(3)]) == 3

    assert peak_bytes(one_after_the_other, CPU) == pytest.approx(2**22, rel=0.01)
    assert peak_bytes(together, CPU) == pytest.approx(3 * 2**22, rel=0.01)


def test_parts_add_up_to_the_whole() -> None:
    def work() -> None:
        with torch.profiler.record_function(f"{PART}half"):
            torch.randn(300, 300) @ torch.randn(300, 300)
        torch.randn(300, 300) @ torch.randn(300, 300)

    parts = split_parts(work, CPU)
    assert parts.keys() == {"half", "rest"} and min(parts.values()) > 0


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_config(CONFIG, tmp_path / "conf.yaml")
    out = tmp_path / "new" / "train.json"
    shape = ("--utterances", "2", "--frames", "60", "--labels", "4", "--vocab-size", "12", "--rounds", "2")
    words = ["bench-train", "--conf", str(tmp_path / "conf.yaml"), "--out", str(out), *shape]
    assert main(words) == 0
    found = json.loads(out.read_text())
    step = found["step"]
    for name in ("max", "sandwich", "apart", "optimizer"):
        assert len(step[name]["seconds"]) == 2 and step[name]["median_seconds"] > 0
    assert step["max"]["peak_bytes"] > 0 and step["hours_per_hour"] > 0
    forward, backward = (
        {"share", "encoder", "loss", "distillation"},
        {"backward", "backward of what is shared"},
    )
    assert step["parts"].keys() == forward | backward | {"optimiser", "rest"}
    assert min(found["losses"][name]["peak_bytes"] for name in ("native", "torchaudio")) > 0
    assert ("k2" in found["losses"]) != ("k2" in found["losses"]["missing"])
    assert found["convolution"].keys() == {"100", "250", "500", "1000", "1500"}
    assert out.with_suffix(".png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "sandwich" in shown and "hours of audio per hour" in shown and "torchaudio" in shown


def test_a_batch_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-train", "--frames", "3"]) == 2
    assert "--frames: 3 is below 40" in capsys.readouterr().err


def test_a_batch_is_the_same_every_time() -> None:
    shape = BatchShape(utterances=2, frames=50, labels=3, vocab_size=9)
    one, other = shape.draw(CPU), shape.draw(CPU)
    assert torch.equal(one.feats, other.feats) and torch.equal(one.labels, other.labels)
    assert one.feats.shape == (2, 50, 80) and int(one.labels.min()) >= 1
