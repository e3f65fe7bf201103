"""Accuracy check of int8 files, on a net that coarse quantization breaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.nets import CONFIG, MODEL, SPACE, VOCAB_SIZE, make_noise, make_talkative, write_lang
from tests.prepared import speak, write_corpus
from todm.cli import main
from todm.config import Config, ExportConfig, SpaceConfig
from todm.data.tokenizer import Tokenizer
from todm.deploy import guard
from todm.deploy.guard import GuardError, LabelledAudio, WerTolerance, guard_bundle
from todm.deploy.onnx_export import export_bundle
from todm.deploy.quantize import Quantization, list_products
from todm.deploy.saturation import saturates
from todm.deploy.sensitivity import mean_kl_divergence, rank_products
from todm.errors import UserError
from todm.model_dir import save_subnet
from todm.nn.transducer import Transducer
from todm.runtime.fbank import compute_fbank
from todm.runtime.layout import MODEL_NAMES
from todm.runtime.recognizer import open_recognizer

Mode = Literal["offline", "streaming"]
SAMPLES = make_noise([32000, 48000, 24000, 40000], seed=4)
BROKEN = "layer1.ffn.in_proj.matmul"
CRUDE = Quantization(per_channel=False)


@torch.no_grad()
def make_fragile(mode: Mode) -> Transducer:
    """A net with a hidden unit that is always silent but has weights a million times as large as others.

    In float it changes nothing; one scale for the whole weight rounds all the other units' to zero.
    """
    feats = torch.from_numpy(compute_fbank(np.concatenate(SAMPLES)))[None]
    net = make_talkative(SPACE.max(mode), feats=feats)
    ffn = net.encoder_layers[1].ffn
    ffn.in_proj.weight[0] = 1e6
    ffn.in_proj.bias[0] = -1e9
    ffn.out_proj.weight[:, 1:] *= 2.0  # the outputs of the other units must matter
    return net


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mode], tuple[Path, LabelledAudio]]:
    """Make a float bundle, and audio that it transcribes without an error."""
    root = tmp_path_factory.mktemp("guard")
    lang = write_lang(root / "lang")

    def make(mode: Mode) -> tuple[Path, LabelledAudio]:
        folder = root / mode
        if not folder.exists():
            export_bundle(make_fragile(mode), CONFIG, lang, folder)
        texts = [result.text for result in open_recognizer(folder).transcribe(SAMPLES)]
        return folder, LabelledAudio(part="noise", texts=texts, samples=SAMPLES)

    return make


@pytest.mark.parametrize("mode", ["offline", "streaming"])
@pytest.mark.parametrize("static", [False, True])
def test_the_costliest_product_is_left_in_float(
    mode: Mode, static: bool, fragile: Callable[[Mode], tuple[Path, LabelledAudio]]
) -> None:
    folder, speech = fragile(mode)
    crude = replace(CRUDE, calibration=SAMPLES if static else (), reduce_range=saturates())
    found = guard_bundle(folder, speech, quantization=crude, tolerance=WerTolerance(absolute=40.0))
    assert found.wer["fp32"] == 0.0 and found.wer["int8_all"] > 60.0
    assert found.holds and found.wer["int8"] <= 40.0
    assert found.excluded == (BROKEN,) and next(iter(found.costs)) == BROKEN
    assert sum(found.integer_products.values()) == len(found.costs) - 1
    assert found.calibration == ("static" if static else "dynamic")
    assert json.loads((folder / "int8.json").read_text()) == found.to_dict()
    # The report describes the files in the folder.
    assert guard.measure_wer(folder, speech, "int8") == found.wer["int8"]
    if not static:  # with a scale for each unit nothing is broken
        costs = rank_products(folder, SAMPLES, Quantization(reduce_range=saturates()))
        assert costs[BROKEN] < found.costs[BROKEN] / 20


def test_files_within_the_tolerance_are_not_changed(
    fragile: Callable[[Mode], tuple[Path, LabelledAudio]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, speech = fragile("offline")
    monkeypatch.setattr(guard, "rank_products", None)
    found = guard_bundle(folder, speech, tolerance=WerTolerance(absolute=1e9), exclude=["output.matmul"])
    assert found.excluded == ("output.matmul",) and found.costs == {}
    assert found.integer_products["joiner"] == 0 and not (folder / "joiner.int8.onnx").exists()
    assert found.bytes["int8"] == sum(
        (folder / name).stat().st_size for name in ("encoder.int8.onnx", "decoder.int8.onnx", "joiner.onnx")
    )
    assert found.under_a_third == (3 * found.bytes["int8"] < found.bytes["fp32"])


def test_int8_files_outside_the_tolerance_are_removed(
    fragile: Callable[[Mode], tuple[Path, LabelledAudio]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, speech = fragile("offline")
    monkeypatch.setattr(guard, "measure_wer", lambda *words: 10.0 if words[-1] == "fp32" else 50.0)
    with pytest.raises(
        GuardError, match=r"offline: int8 has 50\.00% WER.*float has 10\.00% and 0\.30 points.*removed"
    ):
        guard_bundle(folder, speech)
    assert not list(folder.glob("*.int8.onnx"))
    found = json.loads((folder / "int8.json").read_text())
    assert not found["holds"] and found["integer_products"] == {"encoder": 1, "decoder": 0, "joiner": 0}
    assert len(found["excluded"]) == len(found["costs"]) - 1


def test_exclusion_stops_at_the_tolerance(
    fragile: Callable[[Mode], tuple[Path, LabelledAudio]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, speech = fragile("offline")
    wers = iter([10.0, 12.0, 11.0, 10.3, 10.0])  # float, all, one product less, two less, ...
    monkeypatch.setattr(guard, "measure_wer", lambda *words: next(wers))
    costs = {name: 1.0 / (i + 1) for i, name in enumerate(list_products(folder / "encoder.onnx"))}
    monkeypatch.setattr(guard, "rank_products", lambda *args, **options: costs)
    found = guard_bundle(folder, speech)
    assert list(found.excluded) == list(costs)[:2]
    assert found.wer == {"fp32": 10.0, "int8": 10.3, "int8_all": 12.0}


@pytest.mark.parametrize(("wer", "points"), [(0.0, 0.2), (5.0, 0.2), (10.0, 0.3), (50.0, 1.5)])
def test_the_larger_tolerance_counts(wer: float, points: float) -> None:
    tolerance = WerTolerance()
    assert tolerance.points(wer) == pytest.approx(points)
    assert tolerance.holds(wer, wer + points) and tolerance.holds(wer, 0.0)
    assert not tolerance.holds(wer, wer + points + 0.01)
    assert tolerance.holds(9.0, 9.2) and tolerance.holds(8.8, 8.8 + 0.264)


def test_divergence_equals_its_definition() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    wanted = float((p * np.log(p / q)).sum())
    exact = np.log(np.stack((p, q))).astype(np.float32) + 3.0  # a constant changes nothing
    rough = np.log(np.stack((q, q))).astype(np.float32)
    assert mean_kl_divergence(exact, rough) == pytest.approx(wanted / 2, rel=1e-5)
    assert mean_kl_divergence(exact, exact) == 0.0
    assert mean_kl_divergence(exact, np.full_like(exact, np.nan)) == float("inf")


def test_picked_utterances_are_at_even_intervals() -> None:
    samples = [np.zeros(0, np.float32), *(np.full(10, i, np.float32) for i in range(8))]
    speech = LabelledAudio(part="p", texts=[""] * 9, samples=samples)
    assert [int(picked[0]) for picked in speech.pick(4)] == [0, 2, 4, 6]
    assert len(speech.pick(100)) == 8


def test_no_words_to_measure_on(fragile: Callable[[Mode], tuple[Path, LabelledAudio]]) -> None:
    folder, speech = fragile("offline")
    with pytest.raises(UserError, match=r"noise: no words to measure .*offline on"):
        guard_bundle(folder, replace(speech, texts=[""] * len(SAMPLES)))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "corpus", num_train=0, num_dev=5)
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(tmp_path / "lang")
    audio = speak(np.array([0, 1, 2, 3]), np.random.default_rng(5)).astype(np.float32)
    net = make_talkative(SPACE.max(), feats=torch.from_numpy(compute_fbank(audio))[None])
    config = Config(
        model=MODEL,
        space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes),
        export=ExportConfig(guard_absolute=100.0, calibration_utterances=2),
    )
    save_subnet(tmp_path / "max", net, config, tmp_path / "lang")
    words = ["export", "--model", str(tmp_path / "max"), "--out", str(tmp_path / "b")]
    measure = ["--guard-corpus-dir", str(tmp_path / "corpus"), "--guard-part", "dev-here"]
    switches = ["--export.quantization", "static", "--export.per_channel", "false", "--export.fp16", "true"]
    switches += ["--export.reduce_range=true", "--export.exclude", f"[{BROKEN}]"]
    assert main([*words, *measure, "--guard-utterances", "4", *switches]) == 0
    out = capsys.readouterr().out
    assert "in int8 on 4 utterances of dev-here" in out and f"in float: {BROKEN}" in out
    assert "fp16" in out
    found = json.loads((tmp_path / "b" / "int8.json").read_text())
    assert (found["calibration"], found["per_channel"], found["reduce_range"]) == ("static", False, True)
    assert found["excluded"] == [BROKEN] and found["utterances"] == 4
    for part in MODEL_NAMES:
        assert all((tmp_path / "b" / f"{part}.{kind}.onnx").is_file() for kind in ("int8", "fp16"))
    assert main([*words, "--guard-part", "dev-here"]) == 2
    assert "--guard-corpus-dir and --guard-part belong together" in capsys.readouterr().err
    assert main([*words, *measure, "--export.int8", "false"]) == 2
    assert "export.int8" in capsys.readouterr().err


def test_one_size_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "corpus", num_train=0, num_dev=2)
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(tmp_path / "lang")
    config = Config(
        model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
    )
    for name in ("a", "b"):
        save_subnet(
            tmp_path / "exp" / "subnets" / name, make_talkative(SPACE.min()), config, tmp_path / "lang"
        )

    def measure(folder: Path, speech: LabelledAudio, precision: str) -> float:
        return 90.0 if folder.name == "a" and precision == "int8" else 10.0

    monkeypatch.setattr(guard, "measure_wer", measure)
    words = ["--guard-corpus-dir", str(tmp_path / "corpus"), "--guard-part", "dev-here"]
    assert main(["export", "--exp-dir", str(tmp_path / "exp"), *words]) == 2
    shown = capsys.readouterr()
    assert "bundles/a: int8 has 90.00% WER" in shown.err and "bundles/b: fp32" in shown.out
    assert not list((tmp_path / "exp" / "bundles" / "a").glob("*.int8.onnx"))
    assert (tmp_path / "exp" / "bundles" / "b" / "encoder.int8.onnx").is_file()
