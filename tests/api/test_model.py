"""`todm.load`: one interface for supernets, subnets and bundles."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import todm
from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_noise, make_talkative
from todm.config import Config, SpaceConfig
from todm.data.tokenizer import Tokenizer
from todm.inference import Stream
from todm.model_dir import load_subnet, save_subnet, save_supernet
from todm.nn.supernet import Supernet
from todm.runtime import streaming as runtime_streaming
from todm.runtime.decoding import make_search
from todm.runtime.fbank import compute_fbank
from todm.runtime.streaming import StreamingRecognizer

pytest.importorskip("onnxruntime")
pytest.importorskip("kaldi_native_fbank")

CONFIG = Config(
    model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
)
SAMPLES = make_noise([31234])[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``subnets/max``, ``subnets/max-streaming``, ``bundles`` of both, ``supernet`` and ``audio.wav``."""
    from todm.deploy.bundle import write_bundle

    folder = tmp_path_factory.mktemp("models")
    lang = folder / "lang"
    Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, VOCAB_SIZE).save(lang)
    feats = torch.from_numpy(compute_fbank(SAMPLES))[None]
    for name, spec in (("max", SPACE.max()), ("max-streaming", SPACE.max("streaming"))):
        save_subnet(folder / "subnets" / name, make_talkative(spec, feats=feats), CONFIG, lang)
        net, config = load_subnet(folder / "subnets" / name)
        write_bundle(net, config, folder / "subnets" / name, folder / "bundles" / name)
    torch.manual_seed(3)
    save_supernet(folder / "supernet", Supernet(MODEL, SPACE, VOCAB_SIZE).state_dict(), CONFIG, lang)
    soundfile.write(folder / "audio.wav", SAMPLES, 16000, subtype="FLOAT")
    return folder


@pytest.mark.parametrize("name", ["max", "max-streaming"])
def test_torch_and_onnx_give_the_same_transcript(name: str, models: Path) -> None:
    subnet, bundle = (todm.load(models / kind / name) for kind in ("subnets", "bundles"))
    assert subnet.spec == bundle.spec and subnet.is_streaming == bundle.is_streaming == (name != "max")
    mine, theirs = subnet.transcribe(SAMPLES), bundle.transcribe(SAMPLES)
    assert mine == theirs and len(mine.tokens) == len(mine.timestamps) > 2
    assert " ".join("".join(mine.tokens).split()) == mine.text
    assert sorted(mine.timestamps) == list(mine.timestamps) and mine.timestamps[-1] < len(SAMPLES) / 16000 + 1
    for audio in (models / "audio.wav", str(models / "audio.wav"), SAMPLES.astype(np.float64)):
        assert subnet.transcribe(audio) == mine
    assert subnet.transcribe(SAMPLES[:10]) == todm.Transcript(text="")


def test_arrays_are_resampled(models: Path) -> None:
    model = todm.load(models / "bundles" / "max", precision="int8", beam=True)
    texts = {model.transcribe(SAMPLES[::2], sample_rate=8000).text, model.transcribe(SAMPLES, 16000).text}
    assert all(isinstance(text, str) for text in texts)


def feed(stream: Stream, size: int) -> list[todm.Transcript]:
    results = []
    for start in range(0, len(SAMPLES), size):
        stream.accept_waveform(16000, SAMPLES[start : start + size])
        results.append(stream.get_result())
    stream.input_finished()
    return [*results, stream.get_result()]


@pytest.mark.parametrize("kind", ["subnets", "bundles"])
def test_a_stream_ends_with_the_transcript_of_the_whole(kind: str, models: Path) -> None:
    model = todm.load(models / kind / "max-streaming")
    whole = model.transcribe(SAMPLES)
    stream = model.stream()
    for size in (999, 5000):
        results = feed(stream, size)
        assert results[-1] == whole
        for earlier, later in pairwise(results):
            assert later.tokens[: len(earlier.tokens)] == earlier.tokens
        with pytest.raises(todm.UserError, match=r"after input_finished\(\); call reset"):
            stream.accept_waveform(16000, SAMPLES)
        stream.reset()
        assert stream.get_result().text == ""
    stream.accept_waveform(16000, SAMPLES)
    with pytest.raises(todm.UserError, match="the sample rate changed"):
        stream.accept_waveform(8000, SAMPLES)
    for bad in (np.full(100, np.nan), np.full(100, 1e18), np.zeros(100, np.int16)):
        with pytest.raises(todm.UserError, match=r"^audio: "):
            stream.accept_waveform(16000, bad)
    stream.input_finished()
    assert stream.get_result() == whole  # as if the refused audio had not come


@pytest.mark.parametrize("kind", ["subnets", "bundles"])
@pytest.mark.parametrize("reset_encoder", [False, True])
def test_a_reset_with_the_encoder_is_a_fresh_start(kind: str, reset_encoder: bool, models: Path) -> None:
    """The audio at the border is digital silence, so that its features are those of a fresh start."""
    bundle = todm.load(models / kind / "max-streaming").bundle
    search = make_search(bundle)
    host = StreamingRecognizer(bundle, search, reset_encoder=reset_encoder)
    stream, fresh = host.create_stream(), host.create_stream()
    samples = np.concatenate([SAMPLES, np.zeros(8000, np.float32), SAMPLES[::-1]])
    given = len(SAMPLES) + 6000
    stream.accept_waveform(16000, samples[:given])
    decode(host, stream)
    stream.search_state = search.start()
    before = stream.states
    host.reset(stream)
    first = 160 * stream.start_frame
    assert len(SAMPLES) + 200 < first < given  # some of the silence is not decoded yet
    if not reset_encoder:
        assert all(np.array_equal(one, other) for one, other in zip(stream.states, before, strict=True))
        return
    stream.accept_waveform(16000, samples[given:])
    fresh.accept_waveform(16000, samples[first:])
    for each in (stream, fresh):
        each.input_finished()
        decode(host, each)
    mine, theirs = host.get_result(stream), host.get_result(fresh)
    assert mine.ids == theirs.ids and len(mine.ids) > 2
    assert np.allclose(mine.timestamps, np.add(theirs.timestamps, first / 16000))
    for one, other in zip(stream.states, fresh.states, strict=True):
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)


def decode(host: StreamingRecognizer, stream: runtime_streaming.Stream) -> None:
    while host.is_ready(stream):
        host.decode_streams([stream])


def test_a_supernet_at_a_spec(models: Path) -> None:
    by_name = todm.load(models / "supernet", spec="min-streaming", num_threads=1)
    by_spec = todm.load(models / "supernet", spec=SPACE.min("streaming"))
    assert by_name.spec == by_spec.spec and "streaming" in repr(by_name)
    assert by_name.transcribe(SAMPLES) == by_spec.transcribe(SAMPLES)
    with pytest.raises(todm.UserError, match="a supernet needs"):
        todm.load(models / "supernet")
    with pytest.raises(todm.UserError, match="huge"):
        todm.load(models / "supernet", spec="huge")


def test_misuse_is_one_sentence(models: Path, tmp_path: Path) -> None:
    for kind in ("subnets", "bundles"):
        for spec in ("min", SPACE.min()):
            with pytest.raises(todm.UserError, match="one size already"):
                todm.load(models / kind / "max", spec=spec)
    with pytest.raises(todm.UserError, match="no such model"):
        todm.load(tmp_path / "none")
    with pytest.raises(todm.UserError, match="not a model"):
        todm.load(tmp_path)
    with pytest.raises(todm.UserError, match="not an ONNX folder"):
        todm.load(models / "subnets" / "max", precision="int8")
    with pytest.raises(todm.UserError, match="num_threads"):
        todm.load(models / "subnets" / "max", num_threads=0)
    model = todm.load(models / "bundles" / "max")
    with pytest.raises(todm.UserError, match=r"an offline model has no stream\(\)"):
        model.stream()
    with pytest.raises(todm.UserError, match="leave sample_rate out"):
        model.transcribe(models / "audio.wav", sample_rate=16000)
    for audio in (np.zeros((2, 100)), np.zeros(100, np.int16)):
        with pytest.raises(todm.UserError, match="need mono samples"):
            model.transcribe(audio)
    with pytest.raises(todm.UserError, match="NaN or infinity"):
        model.transcribe(np.array([0.0, np.nan]))
    with pytest.raises(todm.UserError, match="sample_rate: must be a positive whole number"):
        model.transcribe(SAMPLES, sample_rate=0)
    with pytest.raises(todm.UserError, match=r"no\.wav"):
        model.transcribe(tmp_path / "no.wav")
