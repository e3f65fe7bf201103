"""One way to transcribe: supernet at a spec, subnet and ONNX folder give the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_noise, make_supernet, make_talkative
from todm.config import Config, SpaceConfig
from todm.data.batch import collate
from todm.data.features import make_extractor
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_configured_view
from todm.errors import UserError
from todm.inference import load, torch_model
from todm.inference.torch_model import compute_host_features
from todm.model_dir import load_subnet, save_subnet, save_supernet
from todm.runtime.errors import AudioError, BundleError
from todm.runtime.fbank import compute_fbank, num_frames

CONFIG = Config(
    model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
)
MODES: list[Literal["offline", "streaming"]] = ["offline", "streaming"]


def utterances() -> list[np.ndarray]:
    return make_noise([16000, 0, 1000, 79, 31234, 700, 24000])


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real tokenizer with exactly as many pieces as the nets have symbols."""
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


def transcribe(folder: Path, utterances: list[np.ndarray], **options: Any) -> list[str]:
    return [result.text for result in load(folder, **options).transcribe_batch(utterances)]


@pytest.mark.parametrize("mode", MODES)
def test_batches_do_not_change_the_texts(mode: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = transcribe(models / mode, utterances())
    assert together[1] == together[3] == ""  # less than half a frame
    assert len(together[4]) > 5 and len(set(together)) >= 3
    for size in (1, 2):
        monkeypatch.setattr(torch_model, "BATCH_SIZE", size)
        assert transcribe(models / mode, utterances()) == together
    model = load(models / mode)
    assert [model.transcribe(samples).text for samples in utterances()] == together
    assert model.transcribe_batch([]) == []


@pytest.mark.parametrize("mode", MODES)
def test_torch_model_gives_the_transcripts_of_training(mode: str, models: Path, lang: Path) -> None:
    """Batches, search and tokenizer of the measurements during training."""
    net, config = load_subnet(models / mode)
    chunks, extractor = make_configured_view(net, config), make_extractor()
    audible = [samples for samples in utterances() if num_frames(len(samples)) > 0]
    feats = [compute_host_features(samples, chunks, extractor) for samples in audible]
    ids = [str(i) for i in range(len(feats))]
    batch = collate(feats, [[] for _ in ids], texts=[""] * len(ids), ids=ids)
    scored = transcribe_batches(net, [batch], Tokenizer.load(lang))
    assert transcribe(models / mode, audible) == [" ".join(each.hyp) for each in scored]


@pytest.mark.parametrize("mode", MODES)
def test_onnx_folder_gives_torch_s_texts(mode: str, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from todm.deploy.bundle import write_bundle

    net, config = load_subnet(models / mode)
    bundle = tmp_path / "bundle"
    write_bundle(net, config, models / mode, bundle)
    audible = [samples for samples in utterances() if num_frames(len(samples)) > 0]
    assert transcribe(bundle, audible) == transcribe(models / mode, audible)
    for options in ({"precision": "int8"}, {"beam": True}):
        texts = transcribe(bundle, utterances(), **options)
        assert len(texts) == len(utterances()) and any(texts)
    with pytest.raises(UserError, match="spec: "):
        load(bundle, spec="min")
    (bundle / "joiner.onnx").write_bytes(b"broken")
    with pytest.raises(BundleError, match=r"joiner\.onnx"):
        load(bundle)


def test_a_supernet_at_a_spec(models: Path) -> None:
    texts = transcribe(models / "supernet", utterances(), spec="mid-streaming")
    assert len(texts) == len(utterances())
    with pytest.raises(UserError, match="needs a spec"):
        load(models / "supernet")


def test_options_that_do_not_suit_the_model(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such model"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="precision: "):
        load(models / "offline", precision="int8")
    with pytest.raises(UserError, match="beam: "):
        load(models / "offline", beam=True)
    with pytest.raises(UserError, match="not a model"):
        load(tmp_path)
    load(models / "offline", precision="fp32")


def test_silence_and_noise_shorter_than_a_frame_are_no_trouble(models: Path) -> None:
    for mode in MODES:
        texts = transcribe(models / mode, [np.zeros(100, np.float32), np.zeros(16000, np.float32)])
        assert len(texts) == 2


def test_bad_audio_is_refused_in_a_batch(models: Path) -> None:
    for mode in MODES:
        for bad in (np.full(100, np.nan), np.full(100, 1e18), np.zeros(100, np.int16), np.zeros((2, 100))):
            with pytest.raises(AudioError, match=r"^audio: "):
                load(models / mode).transcribe_batch([utterances()[0], bad])


def test_host_features(models: Path) -> None:
    extractor = make_extractor()
    chunks = load(models / "streaming").bundle.streaming
    assert chunks is not None
    samples = utterances()[0]
    assert compute_host_features(np.zeros(79, np.float32), chunks, extractor).shape == (0, 80)
    assert compute_host_features(np.zeros(80, np.float32), None, extractor).shape == (1, 80)
    whole = compute_host_features(samples, None, extractor)
    assert whole.shape == (100, 80) and whole.dtype == np.float32
    streamed = compute_host_features(samples, chunks, extractor)
    assert len(streamed) == chunks.num_consumed_frames(100 + chunks.tail_frames) > 100
    assert np.array_equal(streamed[:98], whole[:98])
