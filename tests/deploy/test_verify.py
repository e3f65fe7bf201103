"""Parity checks on a corpus of tones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import todm
from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_talkative
from tests.prepared import speak, write_corpus
from todm.api.run import Run
from todm.cli import main
from todm.config import Config, LossConfig, SpaceConfig, TrainConfig
from todm.data.tokenizer import Tokenizer
from todm.deploy import verify
from todm.deploy.bundle import write_bundle
from todm.deploy.in_use import InUseResult
from todm.deploy.verify import verify_bundle
from todm.errors import UserError
from todm.inference import Model
from todm.model_dir import load_subnet, save_subnet
from todm.runtime.bundle import describe_bundle
from todm.runtime.fbank import compute_fbank
from todm.runtime.transcript import Transcript

CONFIG = Config(
    model=MODEL,
    space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes),
    train=TrainConfig(loss=LossConfig(streaming_delay=3)),  # bundles state a tail of their own
)


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and the subnets and bundles of both modes, as a run leaves them."""
    root = tmp_path_factory.mktemp("verify")
    write_corpus(root / "corpus", num_train=0, num_dev=6)
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(root / "lang")
    audio = speak(np.array([0, 1, 2, 3]), np.random.default_rng(5)).astype(np.float32)
    feats = torch.from_numpy(compute_fbank(audio))[None]
    for name, mode in (("max", "offline"), ("max-streaming", "streaming")):
        net = make_talkative(SPACE.max(mode), feats=feats)  # type: ignore[arg-type]
        save_subnet(root / "subnets" / name, net, CONFIG, root / "lang")
        write_bundle(net, CONFIG, root / "lang", root / "bundles" / name)
    return root


@pytest.mark.parametrize("name", ["max", "max-streaming"])
def test_all_forms_give_the_same_transcripts(name: str, exp: Path) -> None:
    bundle = exp / "bundles" / name
    found = verify_bundle(bundle, exp / "subnets" / name, exp / "corpus", "dev-here")
    parity = json.loads((bundle / "parity.json").read_text())
    assert parity == found.to_dict()
    assert parity["utterances"] == 6 and parity["part"] == "dev-here"
    assert parity["feature_difference"] < 2e-4
    forms = ["torch", "onnx fp32", "onnx int8"]
    if name == "max-streaming":
        forms.insert(1, "torch chunks")
        shape = describe_bundle(bundle).streaming
        assert shape is not None and shape.stated_tail_frames == shape.tail_frames == shape.window + 4 * 5
        subnet = exp / "subnets" / name
        utterance = speak(np.array([2, 1, 3]), np.random.default_rng(7)).astype(np.float32)
        texts = {todm.load(folder).transcribe(utterance).text for folder in (bundle, subnet)}
        assert len(texts) == 1 and texts != {""}  # decoding in torch appends the same tail
    assert [form for form in parity["wer"] if form != "sherpa-onnx"] == forms
    assert ("sherpa-onnx" in parity["wer"]) != ("sherpa-onnx" in parity["missing"])
    for form in ("torch chunks", "onnx fp32", "sherpa-onnx"):
        if form in parity["wer"]:
            assert parity["differing"][form] == 0


def test_the_command(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "verify",
        str(exp / "bundles" / "max"),
        "--corpus-dir",
        str(exp / "corpus"),
        "--part",
        "dev-here",
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "on 6 utterances of dev-here" in out
    assert all(shown in out for shown in ("in use (noise", "8 kHz", "10 s of hum", "errors"))
    assert all(form in out for form in ("torch", "onnx fp32", "onnx int8", "features differ by at most"))


def test_strict_names_the_failed_checks(
    exp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> tuple[InUseResult, ...]:
        return tuple(
            InUseResult(check=check, runtime="onnxruntime", measured=5, allowed=allowed, unit="words")
            for check, allowed in (("hum", 0), ("8 kHz", 9))
        )

    monkeypatch.setattr(verify, "run_in_use_checks", fail)
    words = [
        "verify",
        str(exp / "bundles" / "max"),
        "--corpus-dir",
        str(exp / "corpus"),
        "--part",
        "dev-here",
    ]
    assert main(words) == 0
    assert "FAILED" in capsys.readouterr().out
    assert main([*words, "--strict"]) == 2
    captured = capsys.readouterr()
    assert "FAILED" in captured.out  # the table comes before the error
    assert "fails 1 in-use checks: hum (onnxruntime); see in_use in its parity.json" in captured.err
    parity = json.loads((exp / "bundles" / "max" / "parity.json").read_text())
    assert [entry["ok"] for entry in parity["in_use"]] == [False, True]
    with pytest.raises(UserError, match="hum"):
        Run(exp).verify("max", "dev-here", exp / "corpus", strict=True)


def test_a_bundle_with_other_transcripts_is_rejected(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, subnet = exp / "bundles" / "max", exp / "subnets" / "max"

    def transcribe(model: Model, utterances: list[np.ndarray]) -> list[Transcript]:
        return [Transcript(text="ONE")] * len(utterances)

    monkeypatch.setattr(Model, "transcribe_batch", transcribe)
    monkeypatch.setattr(verify, "sherpa_transcribe", lambda bundle, utterances: [""] * len(utterances))
    with pytest.raises(UserError, match="the WER of float ONNX differs from torch"):
        verify_bundle(bundle, subnet, exp / "corpus", "dev-here")
    parity = json.loads((bundle / "parity.json").read_text())
    assert parity["differing"]["onnx fp32"] == 6  # the report is written in spite of the error


def test_limit_and_bad_input(exp: Path, tmp_path: Path) -> None:
    bundle, subnet = exp / "bundles" / "max", exp / "subnets" / "max"
    assert verify_bundle(bundle, subnet, exp / "corpus", "dev-here", limit=2, tolerance=100).utterances == 2
    with pytest.raises(UserError, match="no part 'dev-there'"):
        verify_bundle(bundle, subnet, exp / "corpus", "dev-there")
    with pytest.raises(UserError, match="no such folder"):
        verify_bundle(tmp_path / "nothing", subnet, exp / "corpus", "dev-here")
    with pytest.raises(UserError, match=r"config\.yaml"):
        verify_bundle(bundle, tmp_path / "nothing", exp / "corpus", "dev-here")


def test_subnets_of_the_fixture_are_loadable(exp: Path) -> None:
    assert load_subnet(exp / "subnets" / "max-streaming")[0].spec == SPACE.max("streaming")
