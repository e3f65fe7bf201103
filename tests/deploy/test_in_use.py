"""In-use checks: a toy bundle passes what it must, and each check notices its own fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from tests.runtime.conftest import make_utterances, save_bundle
from todm.deploy import in_use
from todm.deploy.in_use import (
    CHECKS,
    InUseResult,
    Trial,
    compute_allowed_errors,
    cut_end,
    make_wordless_sounds,
    run_in_use_checks,
)
from todm.deploy.in_use_runtimes import InUseRuntime, open_runtime
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.resample import resample

IDS = ("a", "b", "c")
REFERENCES = ("ONE TWO", "THREE", "FOUR FIVE SIX")


@dataclass(frozen=True)
class Fake:
    """A runtime whose texts are given by a function of the audio and its rate."""

    text: Callable[[np.ndarray, int], str]
    segments: Callable[[np.ndarray, bool], str] | None = None
    name: str = "sherpa-onnx"

    @property
    def transcribe_segments(self) -> Callable[[np.ndarray, bool], str] | None:
        return self.segments

    def transcribe(self, utterances: Sequence[np.ndarray], sample_rate: int = SAMPLE_RATE) -> list[str]:
        return [self.text(samples, sample_rate) for samples in utterances]


def make_audio() -> list[np.ndarray]:
    """Three utterances of equal loudness and different lengths, each with a quiet end."""
    audio = []
    for seconds in (1.0, 2.0, 3.0):
        samples = 0.5 * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.2)
        samples[-4000:] *= 0.001
        samples[-4000:-2000] *= 30  # 3% of the peak
        audio.append(samples.astype(np.float32))
    return audio


def recognise(samples: np.ndarray, sample_rate: int) -> str:
    """A perfect recognizer of `make_audio`, which distinguishes the utterances by their length."""
    seconds = len(samples) / sample_rate
    if abs(seconds - 10) < 0.01:
        return ""
    return " ".join(REFERENCES) if seconds > 5 else REFERENCES[round(seconds + 0.1) - 1]


def run_checks(fake: Fake, audio: Sequence[np.ndarray] | None = None) -> dict[str, InUseResult]:
    runtime: Any = fake
    trial = Trial(
        bundle=Path("none"),
        runtime=runtime,
        ids=IDS,
        references=REFERENCES,
        samples=make_audio() if audio is None else audio,
    )
    return {result.check: result for check in CHECKS for result in check(trial)}


def failed(results: dict[str, InUseResult]) -> set[str]:
    return {name for name, result in results.items() if not result.ok}


def perfect_segments(samples: np.ndarray, reset_encoder: bool) -> str:
    return " ".join(REFERENCES)


def test_a_perfect_recognizer_passes_all_checks() -> None:
    results = run_checks(Fake(recognise, perfect_segments))
    assert failed(results) == set()
    assert set(results) == {
        "not only empty texts",
        "one stream",
        "one stream, reset at endpoints",
        "one stream, reset_encoder",
        "ends at 2% of the peak",
        "ends at 5% of the peak",
        "8 kHz",
        "44.1 kHz",
        "-30 dB",
        "10 s of silence",
        "10 s of white noise",
        "10 s of pink noise",
        "10 s of hum",
        "10 s of clicks",
    }
    assert "one stream" not in run_checks(Fake(recognise))  # an offline net has no streams


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (lambda samples, rate: "", {"not only empty texts"}),
        (
            lambda samples, rate: "ONE" if len(samples) / rate > 5 else recognise(samples, rate),
            {"one stream", *(f"10 s of {name}" for name in make_wordless_sounds(10))},
        ),
        (
            lambda samples, rate: recognise(samples, rate) if rate == SAMPLE_RATE else "ONE",
            {"8 kHz", "44.1 kHz"},
        ),
        (
            lambda samples, rate: recognise(samples, rate) if np.abs(samples).max() > 0.1 else "",
            {"-30 dB"},
        ),
        (
            # Needs 0.1 s of quiet at the end.
            lambda samples, rate: (
                recognise(samples, rate) if np.abs(samples[-rate // 10 :]).max() < 0.1 else ""
            ),
            {"ends at 5% of the peak"},
        ),
    ],
)
def test_each_fault_is_noticed(text: Callable[[np.ndarray, int], str], faults: set[str]) -> None:
    assert failed(run_checks(Fake(text, perfect_segments))) == faults


def test_segments_are_checked_as_well() -> None:
    found = failed(run_checks(Fake(recognise, lambda samples, reset_encoder: "ONE TWO")))
    assert found == {"one stream, reset at endpoints", "one stream, reset_encoder"}


def test_allowances() -> None:
    assert compute_allowed_errors(0, 0) == 0
    assert compute_allowed_errors(10, 500) == pytest.approx(12)
    assert compute_allowed_errors(10, 501) == pytest.approx(13)
    assert InUseResult(check="x", runtime="y", measured=3, allowed=3.0, unit="z").ok
    assert not InUseResult(check="x", runtime="y", measured=4, allowed=3.9, unit="z").ok


def test_cut_end() -> None:
    samples = np.array([0.0, 1.0, 0.5, 0.03, 0.01, 0.0])
    assert cut_end(samples, 0.02).tolist() == samples[:4].tolist()
    assert cut_end(samples, 0.05).tolist() == samples[:3].tolist()
    assert len(cut_end(np.zeros(5), 0.02)) == 5
    assert len(cut_end(np.zeros(0), 0.02)) == 0


@pytest.mark.parametrize("mode", ["offline", "streaming"])
def test_both_runtimes_agree_on_a_toy_bundle(mode: str, tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "toy", mode, encoder_metadata={"tail_frames": 80})
    names = ["onnxruntime", "sherpa-onnx"] if _has_sherpa() else ["onnxruntime"]
    audio = make_utterances([16000, 24000, 20000])
    results = run_in_use_checks(bundle, names, IDS, REFERENCES, audio)
    assert json.loads(json.dumps([result.to_dict() for result in results]))[0]["ok"] is True
    ours, theirs = (
        {result.check: result.measured for result in results if result.runtime == name}
        for name in ("onnxruntime", "sherpa-onnx")
    )
    assert ours.pop("finite outputs, fp32") == 0
    assert ("one stream" in ours) == (mode == "streaming")
    if theirs:
        assert ours == theirs
    runtimes = [open_runtime(name, bundle) for name in names]
    low = [resample(samples, 16000, 8000) for samples in audio]
    assert len({tuple(runtime.transcribe(low, 8000)) for runtime in runtimes}) == 1


def test_utterances_are_limited_and_spread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def look(trial: Trial) -> Any:
        seen.extend(trial.ids)
        return iter(())

    monkeypatch.setattr(in_use, "CHECKS", (look,))
    bundle = save_bundle(tmp_path / "toy", "offline")
    ids = [str(i) for i in range(1000)]
    run_in_use_checks(bundle, ["onnxruntime"], ids, ids, [np.zeros(10, np.float32)] * 1000)
    assert len(seen) == in_use.MAX_UTTERANCES and seen[0] == "0" and seen[-1] == "999"


@pytest.mark.parametrize("mode", ["offline", "streaming"])
def test_a_net_of_nan_is_noticed(mode: str, tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "toy", mode)
    model = onnx.load(bundle / "joiner.onnx")
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))
    onnx.save(model, bundle / "joiner.onnx")
    results = run_in_use_checks(bundle, ["onnxruntime"], IDS, REFERENCES, make_utterances([16000] * 3))
    bad = {result.check for result in results if not result.ok}
    assert {"not only empty texts", "finite outputs, fp32"} <= bad


def _has_sherpa() -> bool:
    try:
        import sherpa_onnx  # noqa: F401
    except ImportError:
        return False
    return True


def test_the_runtime_is_typed(tmp_path: Path) -> None:
    runtime = open_runtime("onnxruntime", save_bundle(tmp_path / "toy", "offline"))
    assert isinstance(runtime, InUseRuntime) and runtime.transcribe_segments is None
