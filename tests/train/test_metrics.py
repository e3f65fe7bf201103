"""Means over intervals, the log line, the resumable jsonl file and TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from todm.errors import UserError
from todm.train.metrics import JsonLines, Mean, Report, TensorBoard, format_duration


def test_means_are_weighted() -> None:
    mean = Mean()
    mean.add("max", total=10.0, weight=100.0)
    mean.add("min", total=3.0, weight=10.0)
    mean.add("max", total=50.0, weight=50.0)
    mean.add("empty", total=0.0, weight=0.0)
    assert mean.means() == {"max": 60.0 / 150.0, "min": 0.3}
    assert list(mean.means()) == ["max", "min"]


def test_sums_of_two_processes_give_the_joint_mean() -> None:
    one, two = Mean(), Mean()
    one.add("max", total=10.0, weight=100.0)
    one.add("total/odd name", total=1.0, weight=2.0)
    two.add("max", total=50.0, weight=50.0)
    sums = one.to_sums()
    for name, value in two.to_sums().items():
        sums[name] = sums.get(name, 0.0) + value
    assert Mean.from_sums(sums).means() == {"max": 0.4, "total/odd name": 0.5}


def make_report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "epoch": 3,
        "batch": 50,
        "num_batches": 120,
        "step": 410,
        "subnets": {"max": 0.231, "min": 0.3124, "L4-200-str": 0.28},
        "losses": {"distill": 0.0213},
        "lr": 0.0421,
        "grad_norm": 12.345,
        "clipped": 0.02,
        "hours_per_hour": 12.34,
        "eta": 250.0,
    }
    return Report(**{**values, **changes})


def test_log_line() -> None:
    assert make_report().line() == (
        "epoch 3 batch 50/120 step 410 | max 0.231 min 0.312 L4-200-str 0.280 | distill 0.021 | "
        "lr 4.21e-02 grad-norm 12.3 clipped 2% | 12.3 h/h, ETA 4m10s"
    )
    assert make_report(num_batches=0, losses={}, eta=None).line() == (
        "epoch 3 batch 50 step 410 | max 0.231 min 0.312 L4-200-str 0.280 | "
        "lr 4.21e-02 grad-norm 12.3 clipped 2% | 12.3 h/h, ETA ?"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (90000, "1d01h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_resume_where_the_checkpoint_was(tmp_path: Path) -> None:
    path = tmp_path / "train" / "metrics.jsonl"
    lines = JsonLines(path)
    for step in (10, 20, 30, 40):
        lines.write(make_report(step=step).to_dict())
    assert len(read(path)) == 4
    with open(path, "a") as file:
        file.write('{"step": 50, "cut o')
    lines = JsonLines(path, step=20)
    assert [record["step"] for record in read(path)] == [10, 20]
    lines.write({"kind": "valid", "step": 25})
    assert [record["step"] for record in read(path)] == [10, 20, 25]
    assert read(path)[0]["subnets"]["L4-200-str"] == 0.28
    JsonLines(path, step=0)
    assert read(path) == []


def test_json_lines_keep_a_whole_file_and_drop_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3')
    JsonLines(path, step=9).write({"step": 10})
    assert [record["step"] for record in read(path)] == [1, 2, 10]


@pytest.mark.parametrize("bad", ["no json", '{"loss": 1}', "[1]"])
def test_foreign_file_is_refused_and_kept(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{bad}\n')
    with pytest.raises(UserError, match="line 2"):
        JsonLines(path, step=5)
    assert bad in path.read_text()


def test_tensorboard_writes_events_and_hides_later_ones_on_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report = make_report()
    first = TensorBoard(tmp_path)
    for step in (10, 20, 30):
        first.write(report.scalars(), step)
    first.close()
    # Event files are read in the order of their names, which begin with the second of their making; a resumed
    # run is never made in the same one.
    time.sleep(1.1)
    second = TensorBoard(tmp_path, step=20)
    second.write({"loss/max": 0.5}, 25)
    second.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/max")] == [10, 20, 25]
    assert events.Scalars("loss/max")[0].value == pytest.approx(0.231)
    assert {"loss/distill", "optim/lr", "optim/grad_norm"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_there_is_a_warning_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    writer = TensorBoard(tmp_path / "tb")
    writer.write({"loss/max": 1.0}, 1)
    writer.close()
    assert "pip install tensorboard" in caplog.text
    assert not (tmp_path / "tb").exists()
