"""Transcription with any model folder: a supernet at a spec, a subnet, or an ONNX bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from todm.data.batch import collate
from todm.data.features import compute_features, make_extractor
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_configured_view
from todm.errors import UserError
from todm.model_dir import load_plain, model_kind
from todm.nn.transducer import Transducer
from todm.runtime.bundle import Bundle, StreamingShape
from todm.runtime.chunks import Chunks
from todm.runtime.constants import NUM_MEL_BINS
from todm.runtime.decoding import make_search
from todm.runtime.fbank import DEFAULT_FBANK, LOG_FLOOR, FloatArray, num_frames
from todm.runtime.layout import BundleFiles, Precision
from todm.runtime.recognizer import open_recognizer
from todm.runtime.tokens import read_tokens
from todm.runtime.transcript import Transcript, make_transcript


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Options for opening a model.

    Args:
        precision: ``fp32``, ``int8`` or ``fp16``; a torch model has fp32 only. None is fp32.
        beam: modified beam search instead of greedy search; ONNX bundles only.
        num_threads: CPU threads, at least 1.
    """

    precision: Precision | None = None
    beam: bool = False
    num_threads: int = 1


class Recognizer(Protocol):
    """Maps samples (S,) float32 in [-1, 1] at 16 kHz to texts, in the same order."""

    def transcribe(self, utterances: Sequence[np.ndarray]) -> list[str]:
        """Transcribe utterances; an empty one gives an empty text."""
        ...


class TorchRecognizer:
    """Transcribes with a plain net in torch; a streaming net runs its full pass, which equals streaming.

    Args:
        net: in eval mode.
        tokenizer: maps labels to text.
        chunks: chunking of the streaming host, see `make_streaming_view`; None for an offline net.
        batch_size: utterances per pass.
    """

    def __init__(
        self, net: Transducer, tokenizer: Tokenizer, chunks: Chunks | None, batch_size: int = 16
    ) -> None:
        assert (chunks is None) == (net.spec.mode == "offline")
        self.net = net
        self.tokenizer = tokenizer
        self.chunks = chunks
        self.batch_size = batch_size
        self.extractor = make_extractor()

    def transcribe(self, utterances: Sequence[np.ndarray]) -> list[str]:
        """Transcribe utterances in batches of similar length."""
        texts = [""] * len(utterances)
        audible = [i for i, samples in enumerate(utterances) if num_frames(len(samples)) > 0]
        order = sorted(audible, key=lambda i: len(utterances[i]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            feats = [self.streaming_features(utterances[i]) for i in rows]
            batch = collate(feats, [[] for _ in rows], texts=[""] * len(rows), ids=[str(i) for i in rows])
            for scored in transcribe_batches(self.net, [batch], self.tokenizer):
                texts[int(scored.id)] = " ".join(scored.hyp)
        return texts

    def streaming_features(self, samples: np.ndarray) -> np.ndarray:
        """Compute the features (T, 80) that the net consumes: with trailing silence, in whole chunks.

        For an offline net these are `features`.
        """
        if self.chunks is None:
            return self.features(samples)
        # Padded as audio: the last frames overlap the silence, as on a device.
        feats = self.features(np.pad(samples, (0, self.chunks.tail_frames * DEFAULT_FBANK.frame_shift)))
        return feats[: self.chunks.num_consumed_frames(len(feats))]

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Compute the features used in training: (T, 80) float32."""
        feats = compute_features(samples, self.extractor)
        return feats if len(feats) else np.full((1, NUM_MEL_BINS), LOG_FLOOR, dtype=np.float32)


class BundleRecognizer:
    """Transcribes with an ONNX bundle in onnxruntime; a streaming one is fed chunk by chunk.

    Args:
        folder: the bundle.
        precision: ``fp32``, ``int8`` or ``fp16``.
        beam: modified beam search instead of greedy search.
        num_threads: threads of onnxruntime.
    """

    def __init__(
        self, folder: Path, *, precision: Precision = "fp32", beam: bool = False, num_threads: int = 1
    ) -> None:
        self.recognizer = open_recognizer(
            folder, precision=precision, method="beam" if beam else "greedy", num_threads=num_threads
        )

    def transcribe(self, utterances: Sequence[np.ndarray]) -> list[str]:
        """Transcribe utterances; an empty one gives an empty text."""
        return [result.text for result in self.recognizer.transcribe(list(utterances))]


@dataclass(frozen=True, kw_only=True)
class TorchBundle(Bundle):
    """A plain net with the interface of an opened bundle, so that the runtime's hosts can run it.

    Args:
        net: in eval mode.
    """

    net: Transducer

    @torch.inference_mode()
    def encode(
        self, feats: FloatArray, feat_lens: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Encode whole utterances (N, T, 80) with lengths (N,) to (N, T', J) and lengths (N,)."""
        out, lens = self.net.encode(torch.from_numpy(feats), torch.from_numpy(feat_lens))
        return out.numpy(), lens.numpy()

    @torch.inference_mode()
    def encode_chunk(
        self, feats: FloatArray, states: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Encode a chunk (N, window, 80) with states (L, N, dim) to (N, k, J) and the new states."""
        state = (_contiguous(states[0]), _contiguous(states[1]))
        out, (first, second) = self.net.encode_chunk(torch.from_numpy(feats), state)
        return out.numpy(), (first.numpy(), second.numpy())

    @torch.inference_mode()
    def predict(self, contexts: npt.NDArray[np.int64]) -> FloatArray:
        """Run the predictor: contexts (N, K) of ids or -1 to (N, J)."""
        out: FloatArray = self.net.predict_step(torch.from_numpy(contexts)).numpy()
        return out

    @torch.inference_mode()
    def join(self, encoder_out: FloatArray, predictor_out: FloatArray) -> FloatArray:
        """Run the joiner: (N, J) and (N, J) to logits (N, V)."""
        out = self.net.join(_contiguous(encoder_out), _contiguous(predictor_out))
        logits: FloatArray = out.numpy()
        return logits

    def transcribe(self, feats: FloatArray) -> Transcript:
        """Transcribe the features (T, 80) of one utterance by greedy search."""
        search = make_search(self)
        state = search.start()
        search.advance([state], *self.encode(feats[None], np.array([len(feats)], np.int64)))
        return make_transcript(self, search.best(state))


def _contiguous(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def make_torch_bundle(net: Transducer, folder: Path, chunks: Chunks | None) -> TorchBundle:
    """Give a plain net the interface of an opened bundle.

    Args:
        net: in eval mode, on the CPU.
        folder: model folder with ``tokens.txt``.
        chunks: chunking of a streaming net, see `make_streaming_view`; None for an offline net.
    """
    streaming = None
    if chunks is not None:
        dims = (net.state_dim, net.state_dim)
        streaming = StreamingShape(
            window=chunks.window,
            shift=chunks.shift,
            stated_tail_frames=chunks.stated_tail_frames,
            num_layers=net.spec.depth,
            state_dims=dims,
        )
    unused: Any = None
    return TorchBundle(
        net=net,
        folder=folder,
        mode=net.spec.mode,
        precision="fp32",
        tokens=read_tokens(BundleFiles(folder).tokens),
        context_size=net.context_size,
        vocab_size=net.vocab_size,
        subsampling_factor=net.subsampling_factor,
        spec=net.spec.to_dict(),
        streaming=streaming,
        files=(folder, folder, folder),
        encoder=unused,
        decoder=unused,
        joiner=unused,
    )


def open_model(path: Path, *, spec: str | None = None, options: InferenceOptions | None = None) -> Recognizer:
    """Open a model folder of any kind for transcription.

    Args:
        path: supernet, subnet or bundle folder.
        spec: ladder name or path of a spec.json; required for a supernet, refused otherwise.
        options: precision, search and threads.

    Raises:
        UserError: no model, or an option that does not suit its kind.
    """
    options = options or InferenceOptions()
    if check_model(path, spec, options) == "bundle":
        return BundleRecognizer(
            path,
            precision=options.precision or "fp32",
            beam=options.beam,
            num_threads=options.num_threads,
        )
    torch.set_num_threads(options.num_threads)
    net, config, folder = load_plain(path, spec)
    return TorchRecognizer(net, Tokenizer.load(folder), make_configured_view(net, config))


def check_model(path: Path, spec: str | None, options: InferenceOptions) -> str:
    """Return the kind of a model folder, or raise `UserError` when an option does not suit it."""
    if not path.exists():
        raise UserError(f"{path}: no such model; give a supernet, subnet or ONNX folder")
    kind = model_kind(path)
    if kind == "bundle":
        if spec is not None:
            raise UserError(f"spec: {path} is one size already; leave it out")
        return kind
    if options.precision not in (None, "fp32"):
        raise UserError(
            f"precision: {path} is not an ONNX folder; {options.precision} is for exported models"
        )
    if options.beam:
        raise UserError(f"beam: {path} is not an ONNX folder; beam search runs on exported models")
    return kind
