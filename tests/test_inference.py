"""One way to transcribe: supernet at a spec, subnet and ONNX folder give the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_noise, make_supernet, make_talkative
from todm.config import Config, SpaceConfig
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError
from todm.inference import BundleRecognizer, InferenceOptions, TorchRecognizer, open_model
from todm.model_dir import save_subnet, save_supernet
from todm.runtime.errors import BundleError
from todm.runtime.fbank import compute_fbank, num_frames

CONFIG = Config(
    model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
)
MODES: list[Literal["offline", "streaming"]] = ["offline", "streaming"]


def utterances() -> list[np.ndarray]:
    return make_noise([16000, 0, 1000, 79, 31234, 700, 24000])


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real tokeniser with exactly as many pieces as the nets have symbols."""
    folder = tmp_path_factory.mktemp("lang")
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(folder)
    return folder


@pytest.fixture(scope="module")
def models(lang: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    feats = torch.from_numpy(compute_fbank(np.concatenate(utterances())))[None]
    for mode in MODES:
        net = make_talkative(SPACE.max(mode), feats=feats)
        assert net.vocab_size == Tokenizer.load(lang).vocab_size
        save_subnet(folder / mode, net, CONFIG, lang)
    save_supernet(folder / "supernet", make_supernet(seed=3).state_dict(), CONFIG, lang)
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_batches_do_not_change_the_texts(mode: str, models: Path, lang: Path) -> None:
    recognizer = open_model(models / mode)
    assert isinstance(recognizer, TorchRecognizer)
    together = recognizer.transcribe(utterances())
    assert together[1] == together[3] == ""  # nothing to hear
    assert len(together[4]) > 5 and len(set(together)) >= 3
    for size in (1, 2):
        assert (
            TorchRecognizer(recognizer.net, Tokenizer.load(lang), recognizer.chunks, size).transcribe(
                utterances()
            )
            == together
        )
    assert [recognizer.transcribe([samples])[0] for samples in utterances()] == together
    assert recognizer.transcribe([]) == []


@pytest.mark.parametrize("mode", MODES)
def test_onnx_folder_gives_torch_s_texts(mode: str, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from todm.deploy.bundle import write_bundle
    from todm.model_dir import load_subnet

    net, config = load_subnet(models / mode)
    write_bundle(net, config, models / mode, tmp_path / "bundle")
    exact = open_model(tmp_path / "bundle")
    assert isinstance(exact, BundleRecognizer)
    audible = [samples for samples in utterances() if num_frames(len(samples)) > 0]
    for ours, theirs in zip(
        exact.transcribe(audible), open_model(models / mode).transcribe(audible), strict=True
    ):
        assert " ".join(ours.split()) == " ".join(theirs.split())
    for options in (InferenceOptions(precision="int8"), InferenceOptions(beam=True)):
        texts = open_model(tmp_path / "bundle", options=options).transcribe(utterances())
        assert len(texts) == len(utterances()) and any(texts)
    with pytest.raises(UserError, match="spec: "):
        open_model(tmp_path / "bundle", spec="min")
    (tmp_path / "bundle" / "joiner.onnx").write_bytes(b"broken")
    with pytest.raises(BundleError, match=r"joiner\.onnx"):
        open_model(tmp_path / "bundle")


def test_a_supernet_at_a_spec(models: Path) -> None:
    texts = open_model(models / "supernet", spec="mid-streaming").transcribe(utterances())
    assert len(texts) == len(utterances())
    with pytest.raises(UserError, match="needs --spec"):
        open_model(models / "supernet")


def test_options_that_do_not_suit_the_model(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such model"):
        open_model(tmp_path / "nothing")
    with pytest.raises(UserError, match="precision: "):
        open_model(models / "offline", options=InferenceOptions(precision="int8"))
    with pytest.raises(UserError, match="beam: "):
        open_model(models / "offline", options=InferenceOptions(beam=True))
    with pytest.raises(UserError, match="not a model"):
        open_model(tmp_path)
    open_model(models / "offline", options=InferenceOptions(precision="fp32"))


def test_silence_and_noise_shorter_than_a_frame_are_no_trouble(models: Path) -> None:
    for mode in MODES:
        texts = open_model(models / mode).transcribe([np.zeros(100, np.float32), np.zeros(16000, np.float32)])
        assert len(texts) == 2


def test_features_are_those_of_training(models: Path) -> None:
    recognizer = open_model(models / "offline")
    assert isinstance(recognizer, TorchRecognizer)
    assert recognizer.features(np.zeros(80, np.float32)).shape == (1, 80)
    assert recognizer.features(utterances()[0]).shape == (100, 80)
    assert recognizer.features(utterances()[0]).dtype == np.float32
