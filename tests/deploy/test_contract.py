"""Faults of a folder that break sherpa-onnx, each made from a valid toy folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")

from todm.deploy.contract import check_bundle  # noqa: E402
from todm.errors import UserError  # noqa: E402


def load_toy() -> Any:
    path = Path(__file__).parents[1] / "runtime" / "conftest.py"
    spec = importlib.util.spec_from_file_location("toy_bundles", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def save_bundle() -> Callable[..., Path]:
    save: Callable[..., Path] = load_toy().save_bundle
    return save


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def set_metadata(key: str, value: str | None) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        metadata.pop(key, None)
        if value is not None:
            metadata[key] = value
        onnx.helper.set_model_props(model, metadata)

    return change


def set_dim(side: str, index: int, axis: int, value: int | str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        dim = getattr(model.graph, side)[index].type.tensor_type.shape.dim[axis]
        dim.Clear()
        if isinstance(value, int):
            dim.dim_value = value
        else:
            dim.dim_param = value

    return change


def set_type(side: str, index: int, kind: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        getattr(model.graph, side)[index].type.tensor_type.elem_type = kind

    return change


@pytest.mark.parametrize("mode", ["offline", "streaming"])
def test_a_good_folder_passes_as_fp32_and_int8(
    mode: str, tmp_path: Path, save_bundle: Callable[..., Path]
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = save_bundle(tmp_path / "m", mode)
    check_bundle(folder)
    for name in ("encoder", "decoder", "joiner"):
        source, target = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        quantize_dynamic(source, target, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    check_bundle(folder)
    edit(folder / "joiner.int8.onnx", set_dim("output", 0, 1, 41))
    with pytest.raises(UserError, match=r"joiner\.int8\.onnx.*41 wide"):
        check_bundle(folder)


def test_one_streaming_file_may_serve_several_chunk_sizes(
    tmp_path: Path, save_bundle: Callable[..., Path]
) -> None:
    folder = save_bundle(tmp_path / "m", "streaming")
    edit(folder / "encoder.onnx", set_dim("input", 0, 1, "T"))
    edit(folder / "encoder.onnx", set_dim("output", 0, 1, "T2"))
    check_bundle(folder)


BROKEN: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("offline", "encoder", set_metadata("model_type", None), "model_type is missing"),
    ("offline", "encoder", set_metadata("model_type", "ssm"), "model_type must be lstm"),
    ("offline", "encoder", set_metadata("model_type", "lstm"), "T is missing"),
    ("offline", "decoder", set_metadata("vocab_size", None), "vocab_size is missing"),
    ("offline", "decoder", set_metadata("vocab_size", "41"), "vocab_size is 41 but tokens.txt has 40"),
    ("offline", "decoder", set_metadata("vocab_size", "forty"), "vocab_size must be a positive number"),
    ("offline", "decoder", set_metadata("context_size", None), "context_size is missing"),
    ("offline", "decoder", set_metadata("context_size", "3"), "metadata context_size gives 3"),
    ("streaming", "encoder", set_metadata("T", None), "metadata T is missing"),
    ("streaming", "encoder", set_metadata("T", "31"), "decode_chunk_len 32 is above T 31"),
    ("streaming", "encoder", set_metadata("T", "39"), "axis 1 of x is 35 where metadata T gives 39"),
    ("streaming", "encoder", set_metadata("decode_chunk_len", None), "decode_chunk_len is missing"),
    ("streaming", "encoder", set_metadata("decode_chunk_len", "30"), "not a multiple of the subsampling"),
    ("streaming", "encoder", set_metadata("decode_chunk_len", "16"), "8 frames per chunk where"),
    ("streaming", "encoder", set_metadata("num_encoder_layers", None), "num_encoder_layers is missing"),
    ("streaming", "encoder", set_metadata("num_encoder_layers", "3"), "axis 0 of state0 is 2 where"),
    ("streaming", "encoder", set_metadata("d_model", None), "d_model is missing"),
    ("streaming", "encoder", set_metadata("d_model", "7"), "axis 2 of state0 is 12 where"),
    ("streaming", "encoder", set_metadata("rnn_hidden_size", "-7"), "rnn_hidden_size must be a positive"),
    ("streaming", "encoder", set_metadata("rnn_hidden_size", "12"), "axis 2 of state1 is 7 where"),
    ("streaming", "encoder", set_metadata("model_type", "zipformer2"), r"has 3 inputs \(x, state0, state1\)"),
    ("streaming", "encoder", lambda m: m.graph.input.pop(), "has 2 inputs"),
    ("streaming", "encoder", lambda m: m.graph.output.pop(), "has 2 outputs"),
    ("streaming", "encoder", set_dim("input", 1, 1, 1), "axis 1 of state0 is fixed at 1 but must be dynamic"),
    ("streaming", "encoder", set_dim("output", 2, 1, 1), "axis 1 of new_state1 is fixed"),
    ("offline", "encoder", lambda m: m.graph.input.pop(), r"has 1 inputs \(x\) where \(x, x_lens\)"),
    ("offline", "encoder", set_dim("input", 0, 0, 1), "axis 0 of x is fixed at 1"),
    ("offline", "encoder", set_dim("input", 0, 1, 50), "axis 1 of x is fixed at 50"),
    ("offline", "encoder", set_dim("input", 0, 2, 40), "axis 2 of x is 40 where sherpa-onnx passes 80"),
    ("offline", "encoder", set_dim("output", 0, 2, 17), "the output of encoder.onnx is 17 wide"),
    ("offline", "encoder", set_type("input", 1, 1), "x_lens is float32 where int64"),
    ("offline", "decoder", set_dim("input", 0, 0, 1), "axis 0 of y is fixed at 1"),
    ("offline", "decoder", set_dim("output", 0, 1, 17), "the output of decoder.onnx is 17 wide"),
    ("offline", "decoder", lambda m: m.graph.output.add().CopyFrom(m.graph.output[0]), "has 2 outputs"),
    ("offline", "decoder", lambda m: m.graph.output[0].type.tensor_type.shape.dim.add(), "has 3 axes"),
    ("offline", "decoder", set_type("input", 0, 6), "y is int32 where int64"),
    ("offline", "joiner", set_dim("output", 0, 1, 41), "logit is 41 wide but the vocab_size of tokens.txt"),
    ("offline", "joiner", set_dim("output", 0, 1, "V"), "must have a fixed width"),
    ("offline", "joiner", set_dim("input", 1, 0, 1), "axis 0 of decoder_in is fixed"),
    ("offline", "joiner", lambda m: m.graph.input.pop(), "has 1 inputs"),
    ("offline", "joiner", lambda m: setattr(m, "ir_version", 14), "IR version 14"),
    ("offline", "joiner", lambda m: setattr(m.opset_import[0], "version", 27), "opset 27"),
    (
        "offline",
        "decoder",
        lambda m: m.metadata_props.add(key="vocab_size", value="40"),
        "vocab_size is repeated",
    ),
]


@pytest.mark.parametrize(("mode", "which", "change", "reason"), BROKEN, ids=[b[3] for b in BROKEN])
def test_faults_that_break_sherpa_onnx_are_named(
    mode: str,
    which: str,
    change: Callable[[Any], Any],
    reason: str,
    tmp_path: Path,
    save_bundle: Callable[..., Path],
) -> None:
    folder = save_bundle(tmp_path / "m", mode)
    edit(folder / f"{which}.onnx", change)
    with pytest.raises(UserError, match=reason) as caught:
        check_bundle(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokens_must_match(tmp_path: Path, save_bundle: Callable[..., Path]) -> None:
    folder = save_bundle(tmp_path / "m", "offline")
    tokens = folder / "tokens.txt"
    whole = tokens.read_text(encoding="utf-8")
    tokens.write_text(whole + "extra 40\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"vocab_size is 40 but tokens\.txt has 41"):
        check_bundle(folder)
    tokens.write_text(whole.replace("<unk> 2", "<unk> 50"), encoding="utf-8")
    with pytest.raises(UserError, match="without a gap"):
        check_bundle(folder)
    tokens.unlink()
    with pytest.raises(UserError, match=r"tokens\.txt: no such file"):
        check_bundle(folder)


def test_missing_and_damaged_files(tmp_path: Path, save_bundle: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check_bundle(tmp_path / "nothing")
    folder = save_bundle(tmp_path / "m", "offline")
    path = folder / "joiner.onnx"
    raw = path.read_bytes()
    for damaged in (b"", raw[: len(raw) // 2], b"not a model"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"joiner\.onnx: not an ONNX file, or truncated"):
            check_bundle(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"joiner\.onnx: no such file"):
        check_bundle(folder)
