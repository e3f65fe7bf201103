"""One way to transcribe, whatever kind of model folder it is: supernet at a spec, subnet, or bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from todm.data.batch import collate
from todm.data.features import compute_features, make_extractor
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.errors import UserError
from todm.model_dir import load_plain, model_kind
from todm.nn.transducer import Transducer
from todm.runtime.chunks import Chunks
from todm.runtime.constants import NUM_MEL_BINS
from todm.runtime.fbank import DEFAULT_FBANK, LOG_FLOOR, num_frames
from todm.runtime.recognizer import open_recognizer


class Recognizer(Protocol):
    """Samples (S,) float32 in [-1, 1] at 16 kHz to texts, in the same order."""

    def transcribe(self, utterances: Sequence[np.ndarray]) -> list[str]:
        """Transcribe utterances; an empty one gives an empty text."""
        ...


class TorchRecognizer:
    """A plain net in torch, offline or streaming (the full pass, which streaming equals).

    Args:
        net: in eval mode.
        tokenizer: labels to text.
        chunks: how a host feeds a streaming net, which then hears the same; None for an offline net.
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
        """See `Recognizer`; batches hold utterances of similar length."""
        texts = [""] * len(utterances)
        audible = [i for i, samples in enumerate(utterances) if num_frames(len(samples)) > 0]
        order = sorted(audible, key=lambda i: len(utterances[i]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            feats = [self.heard(utterances[i]) for i in rows]
            batch = collate(feats, [[] for _ in rows], texts=[""] * len(rows), ids=[str(i) for i in rows])
            for scored in transcribe_batches(self.net, [batch], self.tokenizer):
                texts[int(scored.id)] = " ".join(scored.hyp)
        return texts

    def heard(self, samples: np.ndarray) -> np.ndarray:
        """Features (T, 80) that the net gets of `samples`: a stream's end in silence, in whole chunks."""
        if self.chunks is None:
            return self.features(samples)
        # As audio, not as features: the last frames hear the silence begin, as they do on a device.
        feats = self.features(np.pad(samples, (0, self.chunks.tail_frames * DEFAULT_FBANK.frame_shift)))
        return feats[: self.chunks.num_consumed_frames(len(feats))]

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Training's features of `samples`: (T, 80) float32."""
        feats = compute_features(samples, self.extractor)
        return feats if len(feats) else np.full((1, NUM_MEL_BINS), LOG_FLOOR, dtype=np.float32)


class BundleRecognizer:
    """An ONNX folder in onnxruntime; a streaming one is fed chunk by chunk.

    Args:
        folder: the bundle.
        precision: ``fp32``, ``int8`` or ``fp16``.
        beam: modified beam search instead of greedy.
        num_threads: of onnxruntime.
    """

    def __init__(
        self, folder: Path, *, precision: str = "fp32", beam: bool = False, num_threads: int = 1
    ) -> None:
        self.recognizer = open_recognizer(
            folder,
            precision=precision,  # type: ignore[arg-type]
            method="beam" if beam else "greedy",
            num_threads=num_threads,
        )

    def transcribe(self, utterances: Sequence[np.ndarray]) -> list[str]:
        """See `Recognizer`."""
        return [result.text for result in self.recognizer.transcribe(list(utterances))]


def open_model(
    path: Path,
    *,
    spec: str | None = None,
    precision: str | None = None,
    beam: bool = False,
    num_threads: int = 1,
) -> Recognizer:
    """Open any model.

    Args:
        path: supernet, subnet or bundle folder.
        spec: ladder name or path of a spec.json; needed for a supernet, refused otherwise.
        precision: ``fp32``, ``int8`` or ``fp16``, for a bundle only.
        beam: modified beam search, for a bundle only.
        num_threads: CPU threads.

    Raises:
        UserError: no model, or an option that does not suit its kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such model; give a supernet, subnet or ONNX folder")
    if model_kind(path) == "bundle":
        if spec is not None:
            raise UserError(f"--spec: {path} is one size already; leave it out")
        return BundleRecognizer(path, precision=precision or "fp32", beam=beam, num_threads=num_threads)
    if precision not in (None, "fp32"):
        raise UserError(f"--precision: {path} is no ONNX folder; {precision} is for exported models")
    if beam:
        raise UserError(f"--beam: {path} is no ONNX folder; beam search runs on exported models")
    torch.set_num_threads(num_threads)
    net, config, folder = load_plain(path, spec)
    return TorchRecognizer(net, Tokenizer.load(folder), make_streaming_view(net, config.export.chunk_ms))
