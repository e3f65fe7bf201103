"""Open a model folder: ONNX sessions, symbols and the metadata that decoding needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .chunks import MAX_TAIL_FRAMES, Chunks
from .errors import BundleError
from .fbank import FloatArray
from .layout import PRECISIONS, BundleFiles, Precision
from .onnx_metadata import read_metadata
from .tokens import TokenTable, read_tokens

Mode = Literal["offline", "streaming"]


@dataclass(frozen=True, kw_only=True)
class StreamingShape(Chunks):
    """Chunks and states of a streaming encoder (metadata of sherpa-onnx's ``lstm`` host).

    Args:
        window: frames per call, metadata ``T``.
        shift: frames by which the window moves, metadata ``decode_chunk_len``.
        stated_tail_frames: silence after an utterance, metadata ``tail_frames``; None without it.
        num_layers: L of both states.
        state_dims: last dimension of the two states, (L, N, dim).
    """

    num_layers: int
    state_dims: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Opened model folder, made by `open_bundle`.

    Args:
        folder: the model folder.
        mode: ``offline`` (whole utterances) or ``streaming`` (chunks with a state).
        precision: precision of the opened files.
        tokens: symbols by id.
        context_size: labels that the decoder sees.
        vocab_size: V, width of the logits.
        subsampling_factor: feature frames per encoder frame.
        spec: content of spec.json, or of the encoder's metadata ``todm_spec``, or empty.
        streaming: chunks and states; None for an offline model.
        files: the three ONNX files.
        encoder, decoder, joiner: onnxruntime sessions; None in the result of `describe_bundle`.
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
        """Run the offline encoder: feats (N, T, C), feat_lens (N,) -> (N, T', J), frames (N,) in 0 to T'."""
        assert self.mode == "offline"
        out, lens = _run(self.encoder, feats, feat_lens)[:2]
        return out, np.clip(lens.astype(np.int64), 0, out.shape[1])

    def encode_chunk(
        self, feats: FloatArray, states: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Run the streaming encoder: feats (N, window, C), states (L, N, dim) -> (N, k, J) and new states."""
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
        """Run the decoder: contexts (N, context_size), ids or -1 -> (N, J)."""
        out: FloatArray = _run(self.decoder, contexts)[0]
        return out

    def join(self, encoder_out: FloatArray, predictor_out: FloatArray) -> FloatArray:
        """Run the joiner: (N, J) and (N, J) -> logits (N, V)."""
        out: FloatArray = _run(self.joiner, encoder_out, predictor_out)[0]
        return out


def describe_bundle(folder: str | Path, precision: Precision = "fp32") -> Bundle:
    """Read and check a model folder without opening sessions: ``encoder, decoder, joiner`` are None.

    Args:
        folder: holds encoder.onnx, decoder.onnx, joiner.onnx and tokens.txt.
        precision: ``int8`` and ``fp16`` fall back to fp32 for a decoder or joiner without such a file.

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
    encoder_metadata, decoder_metadata = read_metadata(files[0]), read_metadata(files[1])
    streaming = None
    if encoder_metadata.get("model_type") == "lstm":
        keys = ("T", "decode_chunk_len", "num_encoder_layers", "d_model", "rnn_hidden_size")
        window, shift, num_layers, dim0, dim1 = (_int(encoder_metadata, key, files[0]) for key in keys)
        tail = _int(encoder_metadata, "tail_frames", files[0]) if "tail_frames" in encoder_metadata else None
        if tail is not None and tail > MAX_TAIL_FRAMES:
            raise BundleError(
                f"{files[0]}: metadata tail_frames must be at most {MAX_TAIL_FRAMES}, not {tail}; export the "
                "model again"
            )
        streaming = StreamingShape(
            window=window,
            shift=shift,
            stated_tail_frames=tail,
            num_layers=num_layers,
            state_dims=(dim0, dim1),
        )
    context_size = _int(decoder_metadata, "context_size", files[1])
    vocab_size = _int(decoder_metadata, "vocab_size", files[1])
    if vocab_size != len(tokens):
        raise BundleError(
            f"{layout.tokens}: has {len(tokens)} symbols but the decoder's vocab_size is "
            f"{vocab_size}; take both from one export"
        )
    factor_metadata = {"subsampling_factor": "4", **encoder_metadata}
    return Bundle(
        folder=folder,
        mode="streaming" if streaming else "offline",
        precision=precision,
        tokens=tokens,
        context_size=context_size,
        vocab_size=vocab_size,
        subsampling_factor=_int(factor_metadata, "subsampling_factor", files[0]),
        spec=_read_spec(layout.spec, encoder_metadata),
        streaming=streaming,
        files=files,
        encoder=None,
        decoder=None,
        joiner=None,
    )


def open_bundle(folder: str | Path, *, precision: Precision = "fp32", num_threads: int = 1) -> Bundle:
    """Open a model folder with onnxruntime.

    Args:
        folder: holds encoder.onnx, decoder.onnx, joiner.onnx and tokens.txt.
        precision: ``int8`` opens the ``*.int8.onnx`` files, ``fp16`` the ``*.fp16.onnx`` files; a decoder or
            joiner without one is opened in fp32.
        num_threads: threads of onnxruntime, at least 1.

    Raises:
        BundleError: a missing or damaged file, or metadata that is missing or contradicts the files.
    """
    bundle = describe_bundle(folder, precision)
    encoder, decoder, joiner = (open_session(file, num_threads) for file in bundle.files)
    expected = (3, 3) if bundle.streaming else (2, 2)
    found = (len(encoder.get_inputs()), len(encoder.get_outputs()))
    if found != expected:
        raise BundleError(
            f"{bundle.files[0]}: has {found[0]} inputs and {found[1]} outputs where {expected[0]} and "
            f"{expected[1]} are expected; check its metadata model_type or export the model again"
        )
    return replace(bundle, encoder=encoder, decoder=decoder, joiner=joiner)


def open_session(path: Path, num_threads: int) -> Any:
    """Open one ONNX file with onnxruntime on the CPU.

    Raises:
        BundleError: the file is missing or damaged.
    """
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
    """Run by position, as sherpa-onnx does; tensor names are ignored."""
    feeds = {entry.name: value for entry, value in zip(session.get_inputs(), values, strict=True)}
    outputs: list[Any] = session.run(None, feeds)
    return outputs


def _int(metadata: Mapping[str, str], key: str, path: Path) -> int:
    text = metadata.get(key)
    if text is None:
        raise BundleError(f"{path}: metadata {key} is missing; export the model again")
    if not text.isdecimal() or int(text) < 1:
        raise BundleError(
            f"{path}: metadata {key} must be a positive number, not {text!r}; export the model again"
        )
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
