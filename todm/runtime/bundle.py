"""A model folder (encoder, decoder, joiner, tokens.txt) opened with onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .chunks import Chunks
from .errors import BundleError
from .fbank import FloatArray
from .layout import PRECISIONS, BundleFiles, Precision
from .tokens import TokenTable, read_tokens

Mode = Literal["offline", "streaming"]


@dataclass(frozen=True, kw_only=True)
class StreamingShape(Chunks):
    """How a streaming encoder takes its audio (metadata of sherpa-onnx's ``lstm`` host).

    Args:
        window: frames of one call, metadata ``T``.
        shift: frames by which the window moves, metadata ``decode_chunk_len``.
        num_layers: L of both states.
        state_dims: last dimension of the two states, (L, N, dim).
    """

    num_layers: int
    state_dims: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened model folder; make one with `open_bundle`.

    Args:
        folder: where it came from.
        mode: ``offline`` (whole utterances) or ``streaming`` (chunks with a state).
        precision: which files were opened.
        tokens: symbols by id.
        context_size: labels that the decoder sees.
        vocab_size: V, width of the logits.
        subsampling_factor: feature frames per encoder frame.
        spec: content of spec.json, or of the encoder's metadata ``todm_spec``, or empty.
        streaming: chunk and state shapes; None for an offline model.
        files: the three ONNX files.
        encoder, decoder, joiner: onnxruntime sessions.
    """

    folder: Path
    mode: Mode
    precision: Precision
    tokens: TokenTable
    context_size: int
    vocab_size: int
    subsampling_factor: int
    spec: Mapping[str, Any]
    streaming: StreamingShape | None
    files: tuple[Path, Path, Path]
    encoder: Any
    decoder: Any
    joiner: Any

    def encode(
        self, feats: FloatArray, feat_lens: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Offline encoder: feats (N, T, C), feat_lens (N,) -> (N, T', J) and frames (N,) in 0 to T'."""
        assert self.mode == "offline"
        out, lens = _run(self.encoder, feats, feat_lens)[:2]
        return out, np.clip(lens.astype(np.int64), 0, out.shape[1])

    def encode_chunk(
        self, feats: FloatArray, states: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Streaming encoder: feats (N, window, C), states (L, N, dim) -> (N, k, J) and the new states."""
        assert self.mode == "streaming"
        out, state0, state1 = _run(self.encoder, feats, *states)[:3]
        return out, (state0, state1)

    def init_states(self, num_streams: int) -> tuple[FloatArray, FloatArray]:
        """Zero states (L, num_streams, dim) of a streaming encoder."""
        assert self.streaming is not None
        first, second = (
            np.zeros((self.streaming.num_layers, num_streams, dim), np.float32)
            for dim in self.streaming.state_dims
        )
        return first, second

    def predict(self, contexts: npt.NDArray[np.int64]) -> FloatArray:
        """Decoder: contexts (N, context_size), ids or -1 -> (N, J)."""
        out: FloatArray = _run(self.decoder, contexts)[0]
        return out

    def join(self, encoder_out: FloatArray, predictor_out: FloatArray) -> FloatArray:
        """Joiner: (N, J) and (N, J) -> logits (N, V)."""
        out: FloatArray = _run(self.joiner, encoder_out, predictor_out)[0]
        return out


def open_bundle(folder: str | Path, *, precision: Precision = "fp32", num_threads: int = 1) -> Bundle:
    """Open a model folder.

    Args:
        folder: holds encoder.onnx, decoder.onnx, joiner.onnx and tokens.txt.
        precision: ``int8`` opens the ``*.int8.onnx`` files, ``fp16`` the ``*.fp16.onnx`` files; a decoder or
            joiner without one is taken in fp32.
        num_threads: of onnxruntime, at least 1.

    Raises:
        BundleError: a missing or damaged file, or metadata that is missing or contradicts the files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; give the folder that holds encoder.onnx")
    if precision not in PRECISIONS:
        raise BundleError(f"precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    layout = BundleFiles(folder)
    tokens = read_tokens(layout.tokens)
    files = layout.models(precision)
    encoder, decoder, joiner = (open_session(file, num_threads) for file in files)
    metadata = encoder.get_modelmeta().custom_metadata_map
    decoder_metadata = decoder.get_modelmeta().custom_metadata_map
    streaming = None
    num_inputs, num_outputs = len(encoder.get_inputs()), len(encoder.get_outputs())
    if metadata.get("model_type") == "lstm":
        keys = ("T", "decode_chunk_len", "num_encoder_layers", "d_model", "rnn_hidden_size")
        window, shift, num_layers, dim0, dim1 = (_int(metadata, key, files[0]) for key in keys)
        streaming = StreamingShape(window=window, shift=shift, num_layers=num_layers, state_dims=(dim0, dim1))
    expected = (3, 3) if streaming else (2, 2)
    if (num_inputs, num_outputs) != expected:
        raise BundleError(
            f"{files[0]}: has {num_inputs} inputs and {num_outputs} outputs where {expected[0]} and "
            f"{expected[1]} are expected; check its metadata model_type or export the model again"
        )
    vocab_size = _int(decoder_metadata, "vocab_size", files[1])
    if vocab_size != len(tokens):
        raise BundleError(
            f"{layout.tokens}: has {len(tokens)} symbols but the decoder's vocab_size is "
            f"{vocab_size}; take both from one export"
        )
    return Bundle(
        folder=folder,
        mode="streaming" if streaming else "offline",
        precision=precision,
        tokens=tokens,
        context_size=_int(decoder_metadata, "context_size", files[1]),
        vocab_size=vocab_size,
        subsampling_factor=(
            _int(metadata, "subsampling_factor", files[0]) if "subsampling_factor" in metadata else 4
        ),
        spec=_read_spec(layout.spec, metadata),
        streaming=streaming,
        files=files,
        encoder=encoder,
        decoder=decoder,
        joiner=joiner,
    )


def open_session(path: Path, num_threads: int) -> Any:
    """One ONNX file as an onnxruntime session on the CPU; `BundleError` when it is missing or damaged."""
    import onnxruntime

    if not path.is_file():
        raise BundleError(f"{path}: no such file; export the model again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; the caller gets them as exceptions
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base class
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path}: cannot be loaded, it is damaged or of a newer format ({reason}); copy it again"
        ) from None


def _run(session: Any, *values: Any) -> list[Any]:
    """Run by position, as sherpa-onnx does: the tensors' names mean nothing."""
    feeds = {entry.name: value for entry, value in zip(session.get_inputs(), values, strict=True)}
    outputs: list[Any] = session.run(None, feeds)
    return outputs


def _int(metadata: Mapping[str, str], key: str, path: Path) -> int:
    text = metadata.get(key)
    if text is None:
        raise BundleError(f"{path}: metadata {key} is missing; export the model again")
    if not text.isdecimal() or int(text) < 1:
        raise BundleError(f"{path}: metadata {key} must be a positive number, not {text!r}")
    return int(text)


def _read_spec(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    text = path.read_text(encoding="utf-8") if path.is_file() else metadata.get("todm_spec", "{}")
    try:
        spec = json.loads(text)
    except json.JSONDecodeError as error:
        raise BundleError(f"{path}: not valid JSON ({error}); export the model again") from None
    if not isinstance(spec, dict):
        raise BundleError(f"{path}: must hold a JSON object; export the model again")
    return spec
