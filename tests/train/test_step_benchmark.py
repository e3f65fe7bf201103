"""Benchmarks of training: their structure, not their durations."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.prepared import CONFIG
from todm.cli import main
from todm.config import save_config
from todm.train.measurement import measure, measure_peak_bytes
from todm.train.passes import SECTION
from todm.train.step_benchmark import BatchShape
from todm.train.step_profile import busy_seconds, measure_gpu_busy, profile_sections, sum_kernels

CPU = torch.device("cpu")


def test_rounds_are_interleaved_after_a_warm_up() -> None:
    calls: list[str] = []
    costs = measure({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, 3)  # type: ignore[misc]
    assert calls[-6:] == ["a", "b"] * 3 and len(calls) > 6
    assert all(len(cost.seconds) == 3 and cost.median > 0 for cost in costs.values())


def test_peak_memory_counts_simultaneous_tensors() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.zeros(2**20)

    def together() -> None:
        assert len([torch.zeros(2**20) for _ in range(3)]) == 3

    assert measure_peak_bytes(one_after_the_other, CPU) == pytest.approx(2**22, rel=0.01)
    assert measure_peak_bytes(together, CPU) == pytest.approx(3 * 2**22, rel=0.01)


def test_sections_and_rest() -> None:
    def work() -> None:
        with torch.profiler.record_function(f"{SECTION}half"):
            torch.randn(300, 300) @ torch.randn(300, 300)
        torch.randn(300, 300) @ torch.randn(300, 300)

    sections = profile_sections(work, CPU)
    assert sections.keys() == {"half", "rest"} and min(sections.values()) > 0


class Event:
    """Event of a profile from `start` to `end`, in seconds."""

    def __init__(
        self, name: str, device: str, start: float, end: float, *, launch: int = 0, part: bool = False
    ) -> None:
        self._name, self._device, self._launch, self._part = name, device, launch, part
        self._start, self._end = int(start * 1e9), int(end * 1e9)

    def name(self) -> str:
        return self._name

    def device_type(self) -> SimpleNamespace:
        return SimpleNamespace(name=self._device)

    def start_ns(self) -> int:
        return self._start

    def end_ns(self) -> int:
        return self._end

    def duration_ns(self) -> int:
        return self._end - self._start

    def correlation_id(self) -> int:
        return self._launch

    def is_user_annotation(self) -> bool:
        return self._part


PROFILE = [
    Event(f"{SECTION}encoder", "CPU", 0, 2, part=True),
    Event(f"{SECTION}loss", "CPU", 2, 3, part=True),
    Event(f"{SECTION}encoder", "CUDA", 5, 8, part=True),  # the same name on the GPU's own axis
    Event("cudaLaunchKernel", "CPU", 1, 1.1, launch=1),
    Event("cuLaunchKernelEx", "CPU", 2.5, 2.6, launch=2),
    Event("cudaMemcpyAsync", "CPU", 3.5, 3.6, launch=3),
    Event("aten::mm", "CPU", 2.5, 2.7, launch=1),
    Event("gemm", "CUDA", 5, 7, launch=1),
    Event("scan", "CUDA", 6, 8, launch=2),
    Event("copy", "CUDA", 9, 9.5, launch=3),
]


def test_kernels_count_for_the_section_that_launched_them() -> None:
    assert sum_kernels(PROFILE) == pytest.approx({"encoder": 2.0, "loss": 2.0, "rest": 0.5})


def test_a_gpu_is_busy_while_any_kernel_runs() -> None:
    assert busy_seconds(PROFILE) == pytest.approx(3.5)
    assert busy_seconds([]) == 0.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_profile_of_a_gpu() -> None:
    device = torch.device("cuda")
    x = torch.randn(2000, 2000, device=device, requires_grad=True)

    def work() -> None:
        with torch.profiler.record_function(f"{SECTION}forward"):
            y = (x @ x).sum()
        with torch.profiler.record_function(f"{SECTION}backward"):
            y.backward()

    sections = profile_sections(work, device)
    assert sections.keys() >= {"forward", "backward"} and min(sections.values()) > 0
    assert 0.0 < measure_gpu_busy(work, device) <= 1.0


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
    assert step["steps_in_a_row"] == 1 and step["gpu_busy"] is None
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
    assert "--frames: must be at least 40, got 3" in capsys.readouterr().err


def test_a_batch_is_the_same_every_time() -> None:
    shape = BatchShape(utterances=2, frames=50, labels=3, vocab_size=9)
    one, other = shape.draw(CPU), shape.draw(CPU)
    assert torch.equal(one.feats, other.feats) and torch.equal(one.labels, other.labels)
    assert one.feats.shape == (2, 50, 80) and int(one.labels.min()) >= 1
