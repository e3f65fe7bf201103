"""Open a model folder as the recognizer that fits its mode."""

from __future__ import annotations

from pathlib import Path

from .bundle import open_bundle
from .decoding import Method, make_search
from .layout import Precision
from .offline import OfflineRecognizer
from .streaming import StreamingRecognizer


def open_recognizer(
    folder: str | Path,
    *,
    precision: Precision = "fp32",
    method: Method = "greedy",
    max_active_paths: int = 4,
    num_threads: int = 1,
    reset_encoder: bool = False,
) -> OfflineRecognizer | StreamingRecognizer:
    """Open a model folder; both kinds of recognizer have ``transcribe(utterances)``.

    Args:
        folder: holds encoder.onnx, decoder.onnx, joiner.onnx and tokens.txt.
        precision: ``fp32``, ``int8`` or ``fp16``.
        method: ``greedy`` or ``beam``.
        max_active_paths: hypotheses kept by the beam, at least 1.
        num_threads: threads of onnxruntime, at least 1.
        reset_encoder: see `StreamingRecognizer`.

    Raises:
        BundleError: the folder cannot be used.
    """
    bundle = open_bundle(folder, precision=precision, num_threads=num_threads)
    search = make_search(bundle, method, max_active_paths=max_active_paths)
    if bundle.mode == "streaming":
        return StreamingRecognizer(bundle, search, reset_encoder=reset_encoder)
    return OfflineRecognizer(bundle, search)
