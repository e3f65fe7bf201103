"""The checks in ``export/tools`` run, print their results, and reject bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.nets import CONFIG, SPACE, VOCAB_SIZE, make_talkative
from tests.prepared import write_corpus
from tests.runtime.conftest import save_bundle
from todm.data.tokenizer import Tokenizer
from todm.deploy.onnx_export import export_bundle
from todm.model_dir import save_subnet

EXPORT = Path(__file__).parents[2] / "export" / "tools"
SMALL = """
model: {num_layers: 2, d_model: 16, num_heads: 4, head_dim: 4, state_dim: 2, subsampling_channels: 4}
space: {depths: [1, 2], widths: {ffn_dim: [8, 16]}}
"""


def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXPORT / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_encoders_are_compared_in_one_run(tmp_path: Path) -> None:
    conf = tmp_path / "small.yaml"
    conf.write_text(SMALL)
    other = save_bundle(tmp_path / "other", "offline") / "encoder.onnx"
    out = tmp_path / "out.json"
    done = run("compare_encoders.py", conf, "--against", other, "--seconds", 1, "--rounds", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    names = {(row["name"], row["precision"]) for row in found["offline"]["encoders"]}
    assert names == {
        *((name, kind) for name in ("ours", "floor") for kind in ("fp32", "int8")),
        (str(other), "fp32"),
    }
    for mode in ("offline", "streaming"):
        rows = found[mode]["encoders"]
        ours = {row["precision"]: row["ms"] for row in rows if row["name"] == "ours"}
        for row in rows:
            assert row["ratio"] == pytest.approx(ours[row["precision"]] / row["ms"])
    # Two layers, two parts, half of 4 heads of 4 channels, 2 numbers each, 4 bytes.
    assert found["streaming"]["state_bytes"] == 2 * 2 * 8 * 2 * 4
    assert "ours takes" in done.stdout


def test_soak_streams_through_one_state(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle", "streaming")
    corpus = write_corpus(tmp_path / "corpus", num_train=2, num_dev=2)
    part = next(path.name for path in sorted(corpus.iterdir()) if path.name.startswith("dev"))
    done = run("soak.py", bundle, "--corpus-dir", corpus, "--part", part, "--hours", 0.02)
    assert done.returncode == 0, done.stderr + done.stdout
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["hours"] >= 0.02
    assert verdict["segments"] > verdict["different"] >= 0
    assert verdict["wer_ok"] and verdict["wer_fresh"] > 0
    done = run("soak.py", bundle, "--noise", "--hours", 0.01)
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (verdict["words"] > 1) and "wer" not in verdict


def test_causes_of_a_stream_s_errors(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_train=2, num_dev=2)
    part = next(path.name for path in sorted(corpus.iterdir()) if path.name.startswith("dev"))
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(tmp_path / "lang")
    for mode in SPACE.modes:
        save_subnet(tmp_path / mode, make_talkative(SPACE.max(mode)), CONFIG, tmp_path / "lang")
    words = ("--corpus-dir", corpus, "--part", part)
    done = run("stream_causes.py", tmp_path / "streaming", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["utterances"] == 2
    assert all(result[name] > 0 for name in ("nothing", "labels", "encoder", "both"))
    done = run("stream_causes.py", tmp_path / "offline", *words)
    assert done.returncode == 2 and "give a streaming one" in done.stderr


def test_long_audio_is_compared_with_the_whole_convolution(tmp_path: Path) -> None:
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(tmp_path / "lang")
    config = CONFIG
    for mode in SPACE.modes:
        net = make_talkative(SPACE.max(mode))
        save_subnet(tmp_path / mode, net, config, tmp_path / "lang")
        export_bundle(net, config, tmp_path / "lang", tmp_path / f"{mode}-bundle")
    out = tmp_path / "out.json"
    offline = (tmp_path / "offline-bundle", tmp_path / "offline")
    done = run("long_audio.py", *offline, "--minutes", 0.2, 0.05, "--out", out)
    assert done.returncode in (0, 1), done.stderr  # so short, time and memory may not be linear
    rows = json.loads(out.read_text())
    assert [row["minutes"] for row in rows] == [0.05, 0.2]
    assert all(0 < row["difference"] < 1e-4 and row["seconds"] > 0 for row in rows)
    done = run("long_audio.py", tmp_path / "streaming-bundle", tmp_path / "streaming")
    assert done.returncode == 2 and "give an offline bundle" in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["compare_encoders.py", "missing.yaml"], "missing.yaml: no such file"),
        (["soak.py", "missing", "--silence"], "missing"),
        (["long_audio.py", "missing", "missing"], "missing"),
        (["soak.py", "missing"], "give --corpus-dir and --part, or --silence, or --noise"),
    ],
)
def test_bad_input_ends_with_one_sentence(words: list[str], reason: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
