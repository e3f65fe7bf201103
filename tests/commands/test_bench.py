"""``todm bench``: table, files, chart, device profiles, and what it says when something does not run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from tests.runtime.conftest import save_bundle
from todm.api.bench_chart import chart_values, draw_chart
from todm.cli import main
from todm.deploy.device_profile import DeviceProfile, load_device_profile
from todm.errors import UserError
from todm.report.gather import _rtf_by_precision
from todm.runtime.benchmark_result import BenchmarkResult, read_results
from todm.runtime.hosts import HOSTS, Registration

Capture = pytest.CaptureFixture[str]

PROFILE = """\
name: board
reach: ssh
python: python3
threads: [1, 2]
precision: [fp32]
chunk_ms: 160  # half of the bundle's
max_megabytes: 0.001
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bundles")
    paths = [save_bundle(folder / name, mode) for name, mode in (("min", "offline"), ("max", "streaming"))]
    shutil.copyfile(paths[0] / "encoder.onnx", paths[0] / "encoder.int8.onnx")
    return [str(path) for path in paths]


def test_table_files_and_chart(bundles: list[str], tmp_path: Path, capsys: Capture) -> None:
    runtimes = ["onnxruntime"]
    try:
        import sherpa_onnx  # noqa: F401

        runtimes.append("sherpa-onnx")
    except ImportError:
        pass
    words = ["bench", *bundles, "--rounds", "1", "--out", str(tmp_path / "out"), "--runtime", *runtimes]
    assert main(words) == 0
    table = capsys.readouterr().out.splitlines()
    rows = [line.split()[:4] for line in table[1:]]
    assert table[0].split()[:5] == ["bundle", "runtime", "precision", "threads", "RTF"]
    ladder = [("min", "fp32"), ("min", "int8"), ("max", "fp32")]
    expected = [[name, runtime, precision, "1"] for name, precision in ladder for runtime in runtimes]
    assert sorted(rows) == sorted(expected)
    results = json.loads((tmp_path / "out" / "min.json").read_text())
    assert len(results) == 2 * len(runtimes)
    # What the report shows for a size is our own runtime's figure.
    ours = {r["precision"]: r["rtf"] for r in results if r["runtime"] == "onnxruntime"}
    assert _rtf_by_precision(read_results(tmp_path / "out" / "min.json")) == ours
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"min.json", "max.json", "bench.png"}
    assert (tmp_path / "out" / "bench.png").read_bytes()[:4] == b"\x89PNG"


def test_profile_and_threads(bundles: list[str], tmp_path: Path, capsys: Capture) -> None:
    words = ["bench", bundles[1], "--rounds", "1", "--threads", "2", "1", "--profile", "--out", str(tmp_path)]
    assert main(words) == 0
    assert "  encoder MatMul (" in capsys.readouterr().out
    results = json.loads((tmp_path / "max.json").read_text())
    assert [result["num_threads"] for result in results] == [2, 1]
    assert all(result["operators"] for result in results)


def result(name: str, runtime: str, precision: str, num_threads: int, rtf: float) -> BenchmarkResult:
    return BenchmarkResult(name=name, runtime=runtime, precision=precision, num_threads=num_threads, rtf=rtf)


def test_the_chart_shows_the_fewest_threads_of_each_series(tmp_path: Path) -> None:
    results = [
        result("a", "onnxruntime", "fp32", 2, 0.02),
        result("a", "onnxruntime", "fp32", 1, 0.03),
        result("a", "sherpa-onnx", "fp32", 4, 0.01),
        result("b", "onnxruntime", "int8", 1, 0.05),
    ]
    values = chart_values(results)
    assert values == {
        "onnxruntime fp32": {"a": 0.03}, "sherpa-onnx fp32": {"a": 0.01}, "onnxruntime int8": {"b": 0.05}
    }  # fmt: skip
    assert list(values) == ["onnxruntime fp32", "sherpa-onnx fp32", "onnxruntime int8"]
    draw_chart(results, tmp_path / "one.png")
    draw_chart([replace(item, rtf=2 * item.rtf) for item in results[:2]], tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_a_device_profile_sets_threads_and_precision(
    bundles: list[str], tmp_path: Path, capsys: Capture
) -> None:
    profile = tmp_path / "board.yaml"
    profile.write_text(PROFILE)
    words = ["bench", *bundles, "--rounds", "1", "--device", str(profile), "--out", str(tmp_path)]
    assert main(words) == 0
    captured = capsys.readouterr().out
    measured = [
        (r["name"], r["precision"], r["num_threads"])
        for name in ("min", "max")
        for r in json.loads((tmp_path / f"{name}.json").read_text())
    ]
    assert measured == [(name, "fp32", threads) for name in ("min", "max") for threads in (1, 2)]
    assert captured.count("MB are more than the 0.001 MB recommended for board") == 2
    assert captured.count("its chunks are 320 ms, 160 are recommended for board") == 1
    assert main([*words, "--threads", "1", "--precision", "int8"]) == 2  # one has no int8; the other counts
    assert [r["precision"] for r in json.loads((tmp_path / "min.json").read_text())] == ["int8"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("reach: ssh", "reach: usb", "reach: must be ssh or adb, not 'usb'"),
        ("threads: [1, 2]", "threads: 2", "threads: must be a list of numbers from 1, not 2"),
        ("threads: [1, 2]", "threads: [0]", "threads: must be"),
        ("precision: [fp32]", "precision: [int4]", "precision: must be a list out of fp32, int8"),
        ("chunk_ms: 160", "chunk_ms: 50", "chunk_ms: must be a whole number from 80 to 1280, not 50"),
        ("max_megabytes: 0.001", "max_megabytes: -1", "max_megabytes: must be a number above 0"),
        ("name: board", "title: board", "must have exactly the keys name, reach"),
        ("name: board", "name: [", "not readable as YAML"),
        ("python: python3", "python: ''", "python: must be the name of a command"),
    ],
)
def test_bad_profiles_name_the_key(old: str, new: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    assert old in PROFILE
    path.write_text(PROFILE.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_device_profile(path)
    assert str(caught.value).startswith(f"{path}: ") and reason in str(caught.value)
    with pytest.raises(UserError, match="no such device profile"):
        load_device_profile(tmp_path / "none.yaml")


def test_profiles_of_export_are_valid() -> None:
    paths = sorted((Path(__file__).parents[2] / "export" / "devices").glob("*.yaml"))
    assert len(paths) == 3
    for path in paths:
        profile = load_device_profile(path)
        assert isinstance(profile, DeviceProfile) and profile.name == path.stem


def test_what_does_not_run_is_one_sentence(
    bundles: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reason(*words: str) -> str:
        assert main(["bench", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    monkeypatch.setitem(HOSTS, "other", Registration(module="ort", packages=("no-such-package",)))
    assert "run: pip install no-such-package" in reason(*bundles, "--runtime", "other")
    assert "runtime nothing: unknown" in reason(*bundles, "--runtime", "nothing")
    assert "--precision: int4 is not a precision; use fp32" in reason(*bundles, "--precision", "int4")
    assert "--rounds: must be at least 1, got 0" in reason(*bundles, "--rounds", "0")
    assert "the same name" in reason(bundles[0], bundles[0])
    missing = str(tmp_path / "no")
    assert f"{missing}: no such folder" in reason(bundles[0], missing)
    # One damaged bundle does not cost the others their figures.
    broken = Path(shutil.copytree(bundles[1], tmp_path / "broken"))
    (broken / "joiner.onnx").write_bytes(b"?")
    words = (str(broken), bundles[1], "--rounds", "1", "--out", str(tmp_path / "out"))
    assert "joiner.onnx: cannot be loaded" in reason(*words)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"max.json", "bench.png"}
