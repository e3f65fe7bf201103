from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from todm.runtime.bundle import open_bundle
from todm.runtime.errors import BundleError

SaveBundle = Callable[..., Path]


def test_offline_bundle(offline_bundle: Path) -> None:
    bundle = open_bundle(offline_bundle)
    assert (bundle.mode, bundle.precision, bundle.streaming) == ("offline", "fp32", None)
    assert (bundle.context_size, bundle.vocab_size, bundle.subsampling_factor) == (2, 40, 4)
    assert bundle.spec["layers"] == [0, 1]
    out, lens = bundle.encode(np.zeros((3, 50, 80), np.float32), np.array([50, 20, 3]))
    assert out.shape == (3, 11, 16)
    assert lens.tolist() == [11, 4, 0]
    _, lens = bundle.encode(np.zeros((1, 50, 80), np.float32), np.array([500]))
    assert lens.tolist() == [11]  # never beyond what is there


def test_streaming_bundle(streaming_bundle: Path) -> None:
    bundle = open_bundle(streaming_bundle)
    assert bundle.mode == "streaming"
    assert bundle.streaming is not None
    assert (bundle.streaming.window, bundle.streaming.shift) == (35, 32)
    states = bundle.init_states(5)
    assert [state.shape for state in states] == [(2, 5, 12), (2, 5, 7)]
    out, new = bundle.encode_chunk(np.ones((5, 35, 80), np.float32), states)
    assert out.shape == (5, 8, 16)
    assert [state.shape for state in new] == [(2, 5, 12), (2, 5, 7)]


def test_additional_metadata(tmp_path: Path, save_bundle: SaveBundle) -> None:
    metadata = {"subsampling_factor": 8, "todm_spec": '{"layers": [3]}'}
    folder = save_bundle(tmp_path / "m", "offline", encoder_metadata=metadata)
    (folder / "spec.json").unlink()
    bundle = open_bundle(folder)
    assert bundle.subsampling_factor == 8
    assert bundle.spec == {"layers": [3]}


def test_int8_opens_fp32_for_missing_files(tmp_path: Path, offline_bundle: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(offline_bundle, folder)
    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx: no such file"):
        open_bundle(folder, precision="int8")
    shutil.copy(folder / "encoder.onnx", folder / "encoder.int8.onnx")
    shutil.copy(folder / "joiner.onnx", folder / "joiner.int8.onnx")
    files = [file.name for file in open_bundle(folder, precision="int8").files]
    assert files == ["encoder.int8.onnx", "decoder.onnx", "joiner.int8.onnx"]


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt"])
def test_missing_files_are_named(name: str, tmp_path: Path, offline_bundle: Path) -> None:
    folder = shutil.copytree(offline_bundle, tmp_path / "m")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["encoder", "decoder", "joiner"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_truncated_files_are_named(name: str, share: float, tmp_path: Path, offline_bundle: Path) -> None:
    folder = shutil.copytree(offline_bundle, tmp_path / "m")
    path = folder / f"{name}.onnx"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(BundleError, match=rf"{name}\.onnx"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("mode", "which", "key", "value"),
    [
        ("offline", "decoder", "vocab_size", None),
        ("offline", "decoder", "context_size", None),
        ("offline", "decoder", "context_size", "two"),
        ("offline", "decoder", "vocab_size", "41"),
        ("streaming", "encoder", "T", None),
        ("streaming", "encoder", "decode_chunk_len", "0"),
        ("streaming", "encoder", "num_encoder_layers", None),
        ("streaming", "encoder", "d_model", None),
        ("streaming", "encoder", "rnn_hidden_size", None),
        ("streaming", "encoder", "tail_frames", "0"),
        ("streaming", "encoder", "tail_frames", "1000000000"),
    ],
)
def test_metadata_that_is_missing_or_wrong_is_named(
    mode: str, which: str, key: str, value: str | None, tmp_path: Path, save_bundle: SaveBundle
) -> None:
    import onnx

    folder = save_bundle(tmp_path / "m", mode)
    path = folder / f"{which}.onnx"
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if value is None:
        del metadata[key]
    else:
        metadata[key] = value
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    with pytest.raises(BundleError, match=key):
        open_bundle(folder)


def test_an_encoder_of_another_kind_is_refused(tmp_path: Path, save_bundle: SaveBundle) -> None:
    folder = save_bundle(tmp_path / "m", "streaming", encoder_metadata={"model_type": "zipformer2"})
    with pytest.raises(BundleError, match=r"3 inputs and 3 outputs where 2 and 2"):
        open_bundle(folder)


def test_wrong_arguments(tmp_path: Path, offline_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        open_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match="bf16"):
        open_bundle(offline_bundle, precision="bf16")  # type: ignore[arg-type]


def test_a_broken_spec_is_named(tmp_path: Path, offline_bundle: Path) -> None:
    folder = shutil.copytree(offline_bundle, tmp_path / "m")
    for text in ("{", "[1]"):
        (folder / "spec.json").write_text(text)
        with pytest.raises(BundleError, match=r"spec\.json"):
            open_bundle(folder)
