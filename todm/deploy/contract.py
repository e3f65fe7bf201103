"""Check an ONNX folder against the requirements of sherpa-onnx.

sherpa-onnx does not check a model: a missing metadata key ends the process, a missing input is read out of
bounds, and a wrong ``vocab_size`` silently gives wrong text. Each of these is reported here in one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from todm.errors import UserError
from todm.runtime.constants import NUM_MEL_BINS
from todm.runtime.layout import MODEL_NAMES, PRECISIONS, BundleFiles, ModelName
from todm.runtime.tokens import read_tokens

MAX_IR_VERSION = 13
MAX_OPSET = 26
OFFLINE_TYPES = ("conformer", "zipformer", "zipformer2")
STREAMING_TYPE = "lstm"
_FIX = "export the model again"

Dim = int | None  # None: dynamic


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Input or output of a graph: name, element type and shape."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]


@dataclass(frozen=True, kw_only=True)
class OnnxModelInfo:
    """Path, inputs, outputs and metadata of an ONNX file."""

    path: Path
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: dict[str, str]

    def error(self, text: str) -> UserError:
        """Make an exception that names this file."""
        return UserError(f"{self.path}: {text}; {_FIX}")

    def number(self, key: str) -> int:
        """Read a metadata value that must be a positive number."""
        text = self.metadata.get(key)
        if text is None:
            raise self.error(f"metadata {key} is missing")
        if not (text.isascii() and text.isdecimal()) or int(text) < 1:
            raise self.error(f"metadata {key} must be a positive number, not {text!r}")
        return int(text)


def check_bundle(folder: str | Path) -> None:
    """Check ``encoder``, ``decoder`` and ``joiner`` in all precisions of the folder, and the tokens.

    Weights in external files are not read.

    Args:
        folder: holds the ONNX files and tokens.txt.

    Raises:
        UserError: a missing or wrong metadata key, tensor or token, with the name of the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run `todm export` first")
    num_tokens = len(read_tokens(BundleFiles(folder).tokens))
    models = {name: _load_variants(folder, name) for name in MODEL_NAMES}
    joiner_dims: dict[Path, Dim] = {}
    for encoder in models["encoder"]:
        joiner_dims[encoder.path] = _check_encoder(encoder)
    for decoder in models["decoder"]:
        joiner_dims[decoder.path] = _check_decoder(decoder, num_tokens)
    for joiner in models["joiner"]:
        _check_joiner(joiner, num_tokens, joiner_dims)


def _check_encoder(model: OnnxModelInfo) -> Dim:
    """Check an encoder; returns the width J of encoder_out."""
    streaming = model.metadata.get("model_type") == STREAMING_TYPE
    if "model_type" not in model.metadata:
        raise model.error("metadata model_type is missing")
    if not streaming and model.metadata["model_type"] not in OFFLINE_TYPES:
        raise model.error(
            f"metadata model_type must be {STREAMING_TYPE} (streaming) or one of "
            f"{', '.join(OFFLINE_TYPES)} (offline), not {model.metadata['model_type']!r}"
        )
    if not streaming:
        _check_count(model, ("x", "x_lens"), ("encoder_out", "encoder_out_lens"))
        (x, x_lens), (out, out_lens) = model.inputs, model.outputs
        _check_tensor(model, x, "float32", (None, None, NUM_MEL_BINS))
        _check_tensor(model, x_lens, "int64", (None,))
        _check_tensor(model, out, "float32", (None, None, "any"))
        _check_tensor(model, out_lens, "int64", (None,))
        return out.shape[-1]
    window, shift = model.number("T"), model.number("decode_chunk_len")
    num_layers = model.number("num_encoder_layers")
    dims = (model.number("d_model"), model.number("rnn_hidden_size"))
    if shift > window:
        raise model.error(f"metadata decode_chunk_len {shift} is above T {window}: frames would be skipped")
    _check_count(model, ("x", "state0", "state1"), ("encoder_out", "new_state0", "new_state1"))
    x, *states = model.inputs
    out, *new_states = model.outputs
    # A dynamic T is allowed and lets one file serve several chunk sizes.
    _check_tensor(model, x, "float32", (None, window, NUM_MEL_BINS), free=(1,), key="T")
    _check_tensor(model, out, "float32", (None, "any", "any"))
    for old, new, dim, key in zip(states, new_states, dims, ("d_model", "rnn_hidden_size"), strict=True):
        for state in (old, new):
            _check_tensor(
                model, state, "float32", (num_layers, None, dim), key=f"num_encoder_layers or {key}"
            )
    if "tail_frames" in model.metadata:
        model.number("tail_frames")
    factor = model.number("subsampling_factor") if "subsampling_factor" in model.metadata else 4
    if shift % factor:
        raise model.error(
            f"metadata decode_chunk_len {shift} is not a multiple of the subsampling factor {factor}"
        )
    if out.shape[1] is not None and out.shape[1] != shift // factor:
        raise model.error(
            f"{out.name} has {out.shape[1]} frames per chunk where metadata decode_chunk_len {shift} and "
            f"the subsampling factor {factor} give {shift // factor}"
        )
    return out.shape[-1]


def _check_decoder(model: OnnxModelInfo, num_tokens: int) -> Dim:
    """Check a decoder; returns the width J of decoder_out."""
    vocab_size, context_size = model.number("vocab_size"), model.number("context_size")
    if vocab_size != num_tokens:
        raise model.error(f"metadata vocab_size is {vocab_size} but tokens.txt has {num_tokens} ids")
    # With more than one output sherpa-onnx assumes a NeMo model.
    _check_count(model, ("y",), ("decoder_out",))
    _check_tensor(model, model.inputs[0], "int64", (None, context_size), key="context_size")
    _check_tensor(model, model.outputs[0], "float32", (None, "any"))
    return model.outputs[0].shape[-1]


def _check_joiner(model: OnnxModelInfo, num_tokens: int, joiner_dims: dict[Path, Dim]) -> None:
    _check_count(model, ("encoder_out", "decoder_out"), ("logit",))
    for tensor in model.inputs:
        _check_tensor(model, tensor, "float32", (None, "any"))
    (logit,) = model.outputs
    _check_tensor(model, logit, "float32", (None, "any"))
    if logit.shape[1] is None:
        raise model.error(f"output {logit.name} must have a fixed width, the vocab_size {num_tokens}")
    if logit.shape[1] != num_tokens:
        raise model.error(
            f"output {logit.name} is {logit.shape[1]} wide but the vocab_size of tokens.txt and of the "
            f"decoder is {num_tokens}"
        )
    for path, dim in joiner_dims.items():
        own = model.inputs[0 if path.name.startswith("encoder") else 1]
        if dim is not None and own.shape[1] is not None and dim != own.shape[1]:
            raise model.error(
                f"input {own.name} is {own.shape[1]} wide but the output of {path.name} is {dim} wide"
            )


def _check_count(model: OnnxModelInfo, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Compare the number of inputs and outputs, which sherpa-onnx passes by position without checking."""
    for what, found, wanted in (("inputs", model.inputs, inputs), ("outputs", model.outputs, outputs)):
        if len(found) != len(wanted):
            names = ", ".join(tensor.name for tensor in found)
            raise model.error(f"has {len(found)} {what} ({names}) where ({', '.join(wanted)}) is expected")


def _check_tensor(
    model: OnnxModelInfo,
    tensor: TensorInfo,
    dtype: str,
    shape: Sequence[Dim | str],
    *,
    free: Sequence[int] = (),
    key: str = "",
) -> None:
    """Compare a tensor with an element type and a shape of numbers, None (dynamic) and "any".

    Args:
        model: the file, for error messages.
        tensor: input or output of the file.
        dtype: expected element type.
        shape: expected shape.
        free: axes that may also be dynamic.
        key: metadata key that gives the numbers.
    """
    if tensor.dtype != dtype:
        raise model.error(f"{tensor.name} is {tensor.dtype} where {dtype} is expected")
    if len(tensor.shape) != len(shape):
        raise model.error(f"{tensor.name} has {len(tensor.shape)} axes where {len(shape)} are expected")
    for axis, (found, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        if wanted == "any" or found == wanted or (found is None and axis in free):
            continue
        if wanted is None:
            raise model.error(f"axis {axis} of {tensor.name} is fixed at {found} but must be dynamic")
        size = "dynamic" if found is None else str(found)
        source = f"metadata {key} gives" if key and wanted != NUM_MEL_BINS else "sherpa-onnx passes"
        raise model.error(f"axis {axis} of {tensor.name} is {size} where {source} {wanted}")


def _load_variants(folder: Path, name: ModelName) -> list[OnnxModelInfo]:
    files = BundleFiles(folder)
    paths = [files.stored(name, precision) for precision in PRECISIONS]
    paths = [path for path in paths if path == files.stored(name, "fp32") or path.is_file()]
    return [_load(path) for path in paths]


def _load(path: Path) -> OnnxModelInfo:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_FIX}")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's DecodeError has no type stubs
        raise UserError(f"{path}: not an ONNX file, or truncated; {_FIX}") from None
    initializers = {tensor.name for tensor in proto.graph.initializer}
    metadata: dict[str, str] = {}
    for entry in proto.metadata_props:
        if entry.key in metadata:
            raise UserError(f"{path}: metadata {entry.key} is repeated; {_FIX}")
        metadata[entry.key] = entry.value
    model = OnnxModelInfo(
        path=path,
        # Old exporters list weights as inputs; a session does not.
        inputs=tuple(_describe(value) for value in proto.graph.input if value.name not in initializers),
        outputs=tuple(_describe(value) for value in proto.graph.output),
        metadata=metadata,
    )
    if not model.outputs:
        raise UserError(f"{path}: not an ONNX file, or truncated; {_FIX}")
    if proto.ir_version > MAX_IR_VERSION:
        raise model.error(
            f"IR version {proto.ir_version} is above the maximum of sherpa-onnx, {MAX_IR_VERSION}"
        )
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > MAX_OPSET:
            raise model.error(f"opset {opset.version} is above the maximum of sherpa-onnx, {MAX_OPSET}")
    return model


def _describe(value: Any) -> TensorInfo:
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "unknown"
    return TensorInfo(name=value.name, dtype=dtype, shape=shape)
