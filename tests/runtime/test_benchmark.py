"""Benchmarks: meaning of the figures, on every runtime, in this process, a subprocess and a copied folder."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import todm.runtime.hosts
from todm.runtime import benchmark
from todm.runtime.benchmark import BenchmarkOptions, measure_bundle, run_benchmark
from todm.runtime.benchmark_result import BenchmarkResult, Percentiles, read_results
from todm.runtime.bundle import describe_bundle, open_bundle
from todm.runtime.errors import BundleError, UserError
from todm.runtime.hosts import HOSTS, Registration
from todm.runtime.machine import peak_rss_mb
from todm.runtime.onnx_metadata import read_metadata
from todm.runtime.recognizer import open_recognizer
from todm.runtime.standalone import add_runtime
from todm.runtime.timing import Timing, summarize, time_utterance

SECOND = 16000
MakeUtterances = Callable[..., list[np.ndarray]]


class FakeHost:
    """Host with given times on a clock of its own, which has text after some calls.

    Args:
        work: seconds of each call of accept_waveform and input_finished, in turn.
        runs: whether the encoder runs in that call.
        first_text: number of the call after which text exists, -1 for none.
    """

    mode = "streaming"
    files = ()

    def __init__(
        self, work: Sequence[float], runs: Sequence[bool], first_text: int, chunk_frames: int | None = 100
    ) -> None:
        self.now = 0.0
        self.chunk_frames = chunk_frames
        self.pieces: list[int] = []
        self._work, self._runs, self._first_text = list(work), list(runs), first_text
        self._calls = 0

    def create_stream(self) -> FakeHost:
        return self

    def accept_waveform(self, sample_rate: int, samples: np.ndarray) -> bool:
        assert sample_rate == SECOND
        self.pieces.append(len(samples))
        return self._call()

    def input_finished(self) -> bool:
        self.pieces.append(-1)
        return self._call()

    def get_result(self) -> str:
        return "A" if 0 <= self._first_text < self._calls else ""

    def _call(self) -> bool:
        self.now += self._work[self._calls]
        self._calls += 1
        return self._runs[self._calls - 1]


def time_fake(host: FakeHost, samples: int, monkeypatch: pytest.MonkeyPatch) -> Timing:
    monkeypatch.setattr(time, "perf_counter", lambda: host.now)
    return time_utterance(host, np.zeros(samples, np.float32))  # type: ignore[arg-type]


def test_a_fast_host_waits_for_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost([0.1, 0.2, 0.3, 0.4], [True] * 4, first_text=1)
    timing = time_fake(host, 2 * SECOND + 8000, monkeypatch)
    assert host.pieces == [SECOND, SECOND, 8000, -1]
    assert timing.calls == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert timing.first_token == pytest.approx(2.0 + 0.2)  # when the second piece is there, and its work done
    assert timing.end_of_speech == pytest.approx(0.3 + 0.4)  # both after the last sample
    assert timing.text == "A"


def test_a_slow_host_falls_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = time_fake(FakeHost([3.0, 3.0, 1.0], [True] * 3, first_text=2), 2 * SECOND, monkeypatch)
    assert timing.first_token == pytest.approx(1.0 + 3.0 + 3.0 + 1.0)
    assert timing.end_of_speech == pytest.approx(1.0 + 7.0 - 2.0)
    assert timing.total == pytest.approx(7.0)


def test_calls_without_an_encoder_run_count_towards_the_previous_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = FakeHost([0.1, 0.2, 0.4, 0.8], [False, True, False, True], first_text=-1)
    timing = time_fake(host, 3 * SECOND, monkeypatch)
    assert timing.calls == pytest.approx((0.1 + 0.2 + 0.4, 0.8))
    assert timing.first_token is None
    whole = FakeHost([0.1, 0.7], [False, True], first_text=1, chunk_frames=None)
    timing = time_fake(whole, 3 * SECOND, monkeypatch)
    assert whole.pieces == [3 * SECOND, -1]
    assert timing.calls == pytest.approx((0.8,))
    assert timing.first_token == pytest.approx(3.0 + 0.8) and timing.end_of_speech == pytest.approx(0.8)


def test_summaries_take_the_median_pass_and_all_utterances() -> None:
    def timing(total: float, first: float | None, end: float) -> Timing:
        return Timing(calls=(total / 2, total / 2), first_token=first, end_of_speech=end, text="")

    rounds = [[timing(total, None if total == 1.0 else total, 2 * total)] for total in (1.0, 100.0, 3.0)]
    figures = summarize(rounds, audio_seconds=10.0)
    assert figures.rtf == pytest.approx(0.3)
    assert figures.rtf_least == pytest.approx(0.1)
    assert figures.latency_ms and figures.first_token_ms and figures.end_of_speech_ms
    assert figures.latency_ms.p50 == pytest.approx(1500)
    assert figures.first_token_ms.p50 == pytest.approx(1000 * (3 + 100) / 2)
    assert figures.end_of_speech_ms.p50 == pytest.approx(6000)
    assert 6000 < figures.end_of_speech_ms.p95 < figures.end_of_speech_ms.p99 < 200000
    assert summarize([[timing(1.0, None, 1.0)]], 1.0).first_token_ms is None


@pytest.fixture
def wav(tmp_path: Path, make_utterances: MakeUtterances) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, make_utterances([40000])[0] * 0.5, 16000)
    return path


@pytest.mark.parametrize("runtime", HOSTS)
@pytest.mark.parametrize("mode", ["offline", "streaming"])
def test_all_runtimes_give_the_same_transcripts(
    runtime: str, mode: str, make_utterances: MakeUtterances, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(runtime.replace("-", "_"))
    folder = request.getfixturevalue(f"{mode}_bundle")
    utterances = [0.5 * samples for samples in make_utterances([40000, 20001, 9000])]
    result = measure_bundle(folder, BenchmarkOptions(runtime=runtime, num_rounds=2), utterances)
    assert list(result.texts) == [one.text for one in open_recognizer(folder).transcribe(utterances)]
    assert all(result.texts)
    assert (result.runtime, result.mode, result.num_threads) == (runtime, mode, 1)
    assert result.audio_seconds == pytest.approx(sum(map(len, utterances)) / SECOND)
    assert 0 < result.rtf < 5
    for latency in (result.latency_ms, result.first_token_ms, result.end_of_speech_ms):
        assert latency and 0 < latency.p50 <= latency.p95 <= latency.p99
    assert result.cold_first_token_ms and result.cold_first_token_ms > 300  # the first chunk is 320 ms long
    assert result.chunk_ms == (320 if mode == "streaming" else None)
    files = {file.name: file.stat().st_size for file in folder.glob("*.onnx")}
    assert result.file_bytes == files and result.model_bytes == sum(files.values())
    assert result.memory_mb is None or result.memory_mb >= 0
    assert result.start_rss_mb is None or result.start_rss_mb > 10
    assert result.machine[HOSTS[runtime].packages[0]]
    assert BenchmarkResult.from_dict(json.loads(json.dumps(result.to_dict())), "") == result


def test_results_of_older_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "min.json"
    path.write_text(json.dumps([{"rtf": 0.25, "latency_ms": {"p50": 3.0, "p95": 4}, "vanished": 1}]))
    (result,) = read_results(path)
    assert (result.name, result.rtf, result.runtime, result.precision) == ("min", 0.25, "onnxruntime", "fp32")
    assert result.latency_ms is not None and result.latency_ms.to_dict() == {"p50": 3.0, "p95": 4.0}
    assert (result.rtf_least, result.first_token_ms, result.memory_mb) == (None, None, None)
    assert Percentiles().to_dict() == {}
    for text in ("{", "3", "[]", "[3]", "{}", '{"rtf": "fast"}', '{"rtf": 1, "latency_ms": 3}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"min\.json: .*; measure the bundle again"):
            read_results(path)


def test_noise_is_the_default_audio(streaming_bundle: Path) -> None:
    result = measure_bundle(streaming_bundle, BenchmarkOptions(num_rounds=1, method="beam"))
    assert result.audio_seconds == 10 and result.num_utterances == 1
    assert result.name == "streaming"
    with pytest.raises(BundleError, match="is empty"):
        measure_bundle(streaming_bundle, utterances=[np.zeros(0)])


def test_a_subprocess_does_not_count_the_memory_of_its_parent(offline_bundle: Path, wav: Path) -> None:
    ballast = np.ones(80 * 2**20)  # 640 MB
    result = run_benchmark(offline_bundle, BenchmarkOptions(num_rounds=1), [wav])
    assert result.audio_seconds == 2.5
    own = peak_rss_mb()
    assert own is None or own > ballast.nbytes / 2**20 > 2 * (result.peak_rss_mb or 0)


def test_profile_gives_the_share_of_each_operator(streaming_bundle: Path, wav: Path) -> None:
    rows = run_benchmark(streaming_bundle, BenchmarkOptions(num_rounds=1, profile=True), [wav]).operators
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert [row.share for row in rows] == sorted((row.share for row in rows), reverse=True)
    assert {row.model for row in rows} == {"encoder", "decoder", "joiner"}
    calls = {(row.model, row.operator): row.calls for row in rows}
    assert calls["joiner", "Tanh"] == 10 * 8  # 2.5 s and the tail are ten chunks of eight frames
    with pytest.raises(BundleError, match="cannot be profiled"):
        measure_bundle(streaming_bundle, BenchmarkOptions(runtime="sherpa-onnx", profile=True))


@pytest.mark.parametrize("mode", ["offline", "streaming"])
def test_bundles_are_described_without_a_session(mode: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{mode}_bundle")
    bundle, described = open_bundle(folder), describe_bundle(folder, "fp32")
    for field in ("mode", "tokens", "context_size", "vocab_size", "subsampling_factor", "streaming", "files"):
        assert getattr(described, field) == getattr(bundle, field)
    for file, session in zip(bundle.files, (bundle.encoder, bundle.decoder, bundle.joiner), strict=True):
        assert read_metadata(file) == session.get_modelmeta().custom_metadata_map


def test_damaged_and_missing_files_give_one_sentence(offline_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("sherpa_onnx")
    folder = Path(shutil.copytree(offline_bundle, tmp_path / "b"))

    def reason(runtime: str = "sherpa-onnx", **options: Any) -> str:
        with pytest.raises(BundleError) as caught:
            run_benchmark(folder, BenchmarkOptions(runtime=runtime, num_rounds=1, **options))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    raw = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(raw[: len(raw) // 2])
    assert "encoder.onnx" in reason() and "damaged" in reason() and "damaged" in reason("onnxruntime")
    (folder / "encoder.onnx").write_bytes(b"")
    assert "damaged" in reason()
    (folder / "encoder.onnx").write_bytes((folder / "joiner.onnx").read_bytes())  # whole, but another graph
    assert "died with code" in reason()
    (folder / "encoder.onnx").unlink()
    assert "encoder.onnx: no such file" in reason()
    assert "encoder.int8.onnx: no such file" in reason(precision="int8")
    (folder / "decoder.onnx").write_bytes((folder / "joiner.onnx").read_bytes())
    (folder / "encoder.onnx").write_bytes(raw)
    assert "metadata context_size" in reason()  # the host itself would end the process without a word
    shutil.rmtree(folder)
    assert "no such folder" in reason()


def test_a_missing_package_gives_one_sentence(offline_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOSTS, "other", Registration(module="ort", packages=("no-such-package",)))
    for call in (measure_bundle, run_benchmark):
        with pytest.raises(BundleError, match="run: pip install no-such-package"):
            call(offline_bundle, BenchmarkOptions(runtime="other"))
        with pytest.raises(BundleError, match="unknown; give one of onnxruntime"):
            call(offline_bundle, BenchmarkOptions(runtime="another"))


TOY_HOST = """
from . import BundleHost
from ..bundle import describe_bundle

class Stream:
    def accept_waveform(self, sample_rate, samples): return False
    def input_finished(self): return True
    def get_result(self): return "toy"

class Host(BundleHost):
    def create_stream(self): return Stream()

def open_host(folder, *, precision, method, num_threads):
    return Host(describe_bundle(folder, precision))
"""


def test_a_new_runtime_is_one_file_and_one_line(
    tmp_path: Path, offline_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.py").write_text(TOY_HOST)
    monkeypatch.setattr(todm.runtime.hosts, "__path__", [*todm.runtime.hosts.__path__, str(tmp_path)])
    monkeypatch.setitem(HOSTS, "toy", Registration(module="toy", packages=("numpy",)))
    result = measure_bundle(offline_bundle, BenchmarkOptions(runtime="toy"))
    assert (result.runtime, result.mode, result.texts) == ("toy", "offline", ("toy",))
    assert result.model_bytes and result.latency_ms and result.latency_ms.p50 > 0


def test_the_copied_folder_measures_itself(
    tmp_path: Path, wav: Path, streaming_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(streaming_bundle, tmp_path / "bundle")
    shutil.copyfile(folder / "encoder.onnx", folder / "encoder.int8.onnx")
    assert folder / "runtime" / "hosts" / "ort.py" in add_runtime(folder)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)

    done = run("bundle/bench.py", "a.wav", "--rounds", "1", "--threads", "1", "2")
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    assert [(r["precision"], r["num_threads"]) for r in results] == [
        ("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2)
    ]  # fmt: skip
    assert {r["name"] for r in results} == {"bundle"} and results[0]["texts"] == results[1]["texts"]

    done = run("bundle/bench.py", "missing.wav", "--precision", "fp32")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    # Without the packages of this environment.
    for name in ("bench.py", "transcribe.py"):
        done = run("-S", f"bundle/{name}", "a.wav")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "the package numpy is not installed; run: pip install -r requirements.txt" in done.stderr

    assert benchmark.main([str(wav), "--here", "--rounds", "1", "--precision", "int8"], folder=folder) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["precision"] == "int8" and result["file_bytes"]["encoder.int8.onnx"]
    assert benchmark.main(["--bundle", str(folder / "none")]) == 2
    assert (
        capsys.readouterr().err
        == f"{folder / 'none'}: no such folder; give the folder that holds encoder.onnx\n"
    )


def test_hosts_import_only_the_runtime_package_and_their_own_library() -> None:
    allowed = {"numpy", "onnxruntime", "sherpa_onnx", "openvino", *sys.stdlib_module_names}
    paths = list(Path(todm.runtime.hosts.__path__[0]).glob("*.py"))
    assert len(paths) > len(HOSTS)
    for path in paths:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level in (1, 2) or (
                    not node.level and str(node.module).split(".")[0] in allowed
                ), path
        # Looking at the registry must not load a runtime.
        top = [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
        assert not {"onnxruntime", "sherpa_onnx", "openvino"} & set(top)
