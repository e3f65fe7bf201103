"""ONNX folders against the torch nets that they were exported from."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.nets import (  # noqa: E402
    CONFIG,
    MODEL,
    SPACE,
    SPACE_CONFIG,
    VOCAB_SIZE,
    make_batch,
    make_feats,
    make_noise,
    make_supernet,
    make_talkative,
    random_specs,
    write_lang,
)
from todm.config import (  # noqa: E402
    Config,
    ExportConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    load_config,
)
from todm.deploy.bundle import write_bundle  # noqa: E402
from todm.deploy.contract import check_bundle  # noqa: E402
from todm.deploy.onnx_export import export_bundle  # noqa: E402
from todm.deploy.quantize import count_integer_products, quantize_bundle  # noqa: E402
from todm.deploy.saturation import saturates  # noqa: E402
from todm.deploy.verify import sherpa_transcribe  # noqa: E402
from todm.errors import UserError  # noqa: E402
from todm.extract import extract  # noqa: E402
from todm.inference import load  # noqa: E402
from todm.nn.transducer import Transducer  # noqa: E402
from todm.runtime.bundle import Bundle, StreamingShape, open_bundle  # noqa: E402
from todm.runtime.chunks import MARGIN_FRAMES  # noqa: E402
from todm.runtime.fbank import compute_fbank  # noqa: E402
from todm.space.spec import SubnetSpec  # noqa: E402

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lang(tmp_path_factory.mktemp("lang"))


def export(net: Transducer, lang: Path, folder: Path, **changes: Any) -> Bundle:
    export_bundle(net, Config(export=ExportConfig(**changes)), lang, folder)
    check_bundle(folder)
    return open_bundle(folder)


def some_specs(mode: Literal["offline", "streaming"]) -> list[SubnetSpec]:
    return [SPACE.min(mode), *(spec for spec in random_specs(12, seed=5) if spec.mode == mode)][:5]


@pytest.mark.parametrize(("factor", "end_silence"), [(4, 0), (8, 0), (4, 32), (8, 32), (8, 3)])
@torch.no_grad()
def test_offline_equals_torch(factor: Literal[4, 8], end_silence: int, lang: Path, tmp_path: Path) -> None:
    supernet = make_supernet(factor=factor, model=replace(MODEL, end_silence_frames=end_silence))
    for index, spec in enumerate(some_specs("offline")):
        net = extract(supernet, spec)
        bundle = export(net, lang, tmp_path / str(index))
        assert bundle.mode == "offline" and bundle.subsampling_factor == factor
        # Below, at and above the first frame's receptive field, and around the edges of blocks.
        for num_frames in (0, 1, 6, 7, 14, 15, 16, 4 * 32 + 3, 4 * 32 + 7, 301):
            feats = make_feats(num_frames, seed=num_frames)
            out, lens = bundle.encode(feats.numpy(), np.array([num_frames]))
            wanted, wanted_lens = net.encode(feats, torch.tensor([num_frames]))
            assert lens.tolist() == wanted_lens.tolist()
            frames = int(lens[0])
            np.testing.assert_allclose(out[:, :frames], wanted[:, :frames].numpy(), atol=TOLERANCE)
        batch = make_batch([301, 90, 31, 5], [1] * 4)
        out, lens = bundle.encode(batch.feats.numpy(), batch.feat_lens.numpy())
        wanted, wanted_lens = net.encode(batch.feats, batch.feat_lens)
        assert lens.tolist() == wanted_lens.tolist() and lens[-1] == 0
        for row, frames in enumerate(lens):
            np.testing.assert_allclose(out[row, :frames], wanted[row, :frames].numpy(), atol=TOLERANCE)
        if end_silence:  # a host may pad a batch with another value
            spoiled = batch.feats.clone()
            for row, length in enumerate(batch.feat_lens.tolist()):
                spoiled[row, length:] = -23.0
            again, _ = bundle.encode(spoiled.numpy(), batch.feat_lens.numpy())
            for row, frames in enumerate(lens):
                np.testing.assert_allclose(again[row, :frames], out[row, :frames], atol=1e-6)


@pytest.mark.parametrize("factor", [4, 8])
@torch.no_grad()
def test_streaming_chunk_by_chunk_equals_the_full_pass(
    factor: Literal[4, 8], lang: Path, tmp_path: Path
) -> None:
    supernet = make_supernet(factor=factor)
    for index, spec in enumerate(some_specs("streaming")):
        net = extract(supernet, spec)
        for chunk_ms in (80, 320, 640):
            bundle = export(net, lang, tmp_path / f"{index}-{chunk_ms}", chunk_ms=chunk_ms)
            assert bundle.mode == "streaming" and bundle.streaming is not None
            shift, window = bundle.streaming.shift, bundle.streaming.window
            assert (shift, window) == (chunk_ms // 10, chunk_ms // 10 + factor - 1)
            num_chunks = 4
            feats = make_feats(num_chunks * shift + window - shift, batch=3, seed=index)
            states = bundle.init_states(3)
            outputs = []
            for start in range(0, num_chunks * shift, shift):
                out, states = bundle.encode_chunk(feats[:, start : start + window].numpy(), states)
                outputs.append(out)
            wanted, _ = net.encode(feats, torch.tensor([feats.shape[1]] * 3))
            np.testing.assert_allclose(np.concatenate(outputs, axis=1), wanted.numpy(), atol=TOLERANCE)
            torch_state = net.init_state(3)
            _, torch_state = net.encode_chunk(feats, torch_state)
            for got, want in zip(states, torch_state, strict=True):
                scale = max(1.0, float(want.abs().max()))
                np.testing.assert_allclose(got, want.numpy(), atol=TOLERANCE * scale)


@pytest.mark.parametrize("context_size", [1, 2, 3])
@torch.no_grad()
def test_decoder_and_joiner_equal_torch(context_size: int, lang: Path, tmp_path: Path) -> None:
    supernet = make_supernet(model=replace(MODEL, context_size=context_size))
    net = extract(supernet, SPACE.min())
    bundle = export(net, lang, tmp_path / "m")
    assert (bundle.context_size, bundle.vocab_size) == (context_size, VOCAB_SIZE)
    contexts = torch.randint(-1, VOCAB_SIZE, (40, context_size))
    contexts[0] = -1
    predictor_out = net.predict_step(contexts)
    np.testing.assert_allclose(bundle.predict(contexts.numpy()), predictor_out.numpy(), atol=1e-5)
    encoder_out = torch.randn(40, net.joiner_dim)
    np.testing.assert_allclose(
        bundle.join(encoder_out.numpy(), predictor_out.numpy()),
        net.join(encoder_out, predictor_out).numpy(),
        atol=1e-5,
    )


@pytest.mark.parametrize("opset", [18, 21])
def test_metadata_and_files(opset: int, lang: Path, tmp_path: Path) -> None:
    net = extract(make_supernet(), SPACE.mid("streaming"))
    config = Config(
        export=ExportConfig(opset=opset, chunk_ms=160, int8=False),
        model=MODEL,
        space=SPACE_CONFIG,
        train=TrainConfig(loss=LossConfig(streaming_delay=5)),
    )
    sizes = write_bundle(net, config, lang, tmp_path)
    assert set(sizes) == {"fp32"}
    assert not list(tmp_path.glob("*.int8.onnx"))
    model = onnx.load(tmp_path / "encoder.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["model_type"] == "lstm" and metadata["decode_chunk_len"] == "16"
    assert metadata["tail_frames"] == str(19 + 4 * (5 + MARGIN_FRAMES))
    assert open_bundle(tmp_path).streaming == StreamingShape(
        window=19, shift=16, stated_tail_frames=47, num_layers=2, state_dims=(net.state_dim, net.state_dim)
    )
    assert (metadata["T"], metadata["num_encoder_layers"]) == ("19", "2")
    assert metadata["todm_spec"] == net.spec.to_json()
    assert [entry.version for entry in model.opset_import] == [opset]
    assert SubnetSpec.load(tmp_path / "spec.json") == net.spec
    assert load_config(tmp_path / "config.yaml") == config
    assert (tmp_path / "tokens.txt").read_bytes() == (lang / "tokens.txt").read_bytes()


def test_quantized_files(lang: Path, tmp_path: Path) -> None:
    """Most of a net of ordinary widths is in its products: the files are smaller, with the same text."""
    model = ModelConfig(num_layers=2, subsampling_channels=16, d_model=128, head_dim=32, joiner_dim=128)
    space = replace(SPACE, num_layers=2, depths=(2,), widths={"ffn_dim": (512,)})
    for mode in SPACE.modes:
        net = extract(make_supernet(space=space, model=model), space.max(mode))
        folder = tmp_path / mode
        config = Config(model=model, export=ExportConfig(reduce_range=saturates()))
        sizes = write_bundle(net, config, lang, folder)
        assert sizes["int8"] < sizes["fp32"] / 3
        for part in ("encoder", "decoder", "joiner"):
            assert (folder / f"{part}.int8.onnx").stat().st_size < (folder / f"{part}.onnx").stat().st_size
        # In, gate-out, two of the feed-forward, for two layers; the subsampling's; the projection.
        assert count_integer_products(folder / "encoder.int8.onnx") == 2 * 4 + 2
        assert count_integer_products(folder / "encoder.onnx") == 0
        exact, rough = (open_bundle(folder, precision=p) for p in ("fp32", "int8"))
        feats = make_feats(35).numpy()
        if mode == "offline":
            one, other = (b.encode(feats, np.array([35]))[0] for b in (exact, rough))
        else:
            one, other = (b.encode_chunk(feats, b.init_states(1))[0] for b in (exact, rough))
        error = np.abs(one - other).max() / np.abs(one).max()
        assert 0 < error < 0.1


def test_exporting_without_int8_removes_the_old_int8_files(lang: Path, tmp_path: Path) -> None:
    net = extract(make_supernet(), SPACE.max())
    write_bundle(net, Config(), lang, tmp_path)
    assert (tmp_path / "encoder.int8.onnx").is_file()
    write_bundle(net, Config(export=ExportConfig(int8=False)), lang, tmp_path)
    assert not list(tmp_path.glob("*.int8.onnx"))
    (tmp_path / "joiner.onnx").unlink()
    with pytest.raises(UserError, match=r"joiner\.onnx: missing"):
        quantize_bundle(tmp_path)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"chunk_ms": 100}, r"export\.chunk_ms: 100 is not a multiple of 40"),
        ({"chunk_ms": 0}, r"export\.chunk_ms"),
        ({"opset": 17}, r"export\.opset"),
        ({"opset": 27}, r"export\.opset"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], key: str, lang: Path, tmp_path: Path) -> None:
    net = extract(make_supernet(), SPACE.max("streaming"))
    with pytest.raises(UserError, match=key):
        export(net, lang, tmp_path / "m", **changes)
    assert not (tmp_path / "m").exists()


def test_missing_language_files(lang: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokens\.txt: missing"):
        export(extract(make_supernet(), SPACE.max()), tmp_path, tmp_path / "m")


@pytest.mark.parametrize("mode", ["offline", "streaming"])
@pytest.mark.parametrize("factor", [4, 8])
def test_sherpa_onnx_gives_the_same_text(
    mode: Literal["offline", "streaming"], factor: Literal[4, 8], lang: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sherpa_onnx")
    utterances = make_noise([16000, 37920, 6400, 49600])
    feats = torch.from_numpy(compute_fbank(np.concatenate(utterances)))[None]
    net = make_talkative(SPACE.max(mode), factor=factor, feats=feats)
    write_bundle(net, CONFIG, lang, tmp_path)
    ours = [result.text for result in load(tmp_path).transcribe_batch(utterances)]
    assert len(set("".join(ours)) - {" "}) > 2 and len(set(ours)) == len(utterances)
    assert [" ".join(text.split()) for text in sherpa_transcribe(tmp_path, utterances)] == ours


BLOCKED = """
import runpy, sys
for name in ("torch", "todm", "lhotse", "onnx"):
    sys.modules[name] = None
sys.argv = ["transcribe.py", *sys.argv[1:]]
sys.path.insert(0, ".")
runpy.run_path("transcribe.py", run_name="__main__")
"""


@pytest.mark.parametrize("mode", ["offline", "streaming"])
def test_the_folder_runs_without_torch_and_without_the_project(
    mode: Literal["offline", "streaming"], lang: Path, tmp_path: Path
) -> None:
    (samples,) = make_noise([37920])
    net = make_talkative(SPACE.mid(mode), feats=torch.from_numpy(compute_fbank(samples))[None])
    write_bundle(net, Config(), lang, tmp_path / "bundle")
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path / "a.wav")],
        cwd=tmp_path / "bundle",
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = load(tmp_path / "bundle").transcribe(samples).text
    assert text and text in done.stdout
