"""Speed and memory of a model folder on this machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .audio import read_audio
from .bundle import Precision
from .errors import BundleError
from .fbank import DEFAULT_FBANK, FloatArray
from .offline import OfflineRecognizer
from .recognize import open_recognizer
from .search import Method
from .streaming import StreamingRecognizer


def bench_bundle(
    folder: str | Path,
    *,
    precision: Precision = "fp32",
    method: Method = "greedy",
    num_threads: int = 1,
    utterances: Sequence[npt.ArrayLike] = (),
    num_rounds: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model folder: loading, the first pass, and warm passes over some audio.

    Features and search are part of every figure; reading files is not.

    Args:
        folder: the model folder.
        precision: ``fp32`` or ``int8``.
        method: ``greedy`` or ``beam``.
        num_threads: of onnxruntime.
        utterances: each (num_samples,) mono at 16 kHz; noise of 10 seconds when there is none.
        num_rounds: warm passes over all utterances, at least 1.
        seed: of the noise.

    Returns:
        Values ready for JSON: ``load_seconds``; ``cold_seconds`` (first utterance after loading);
        ``rtf`` (processing time per second of audio, the median of the warm rounds); ``latency_ms`` with
        p50, p95 and p99 per encoder chunk (streaming) or utterance (offline), warm; ``chunk_ms``
        (streaming: audio per chunk); ``model_bytes``; ``peak_rss_mb`` of the whole process, or None
        where the system does not tell; and what was measured where.

    Raises:
        BundleError: the folder cannot be used, or the audio is empty.
    """
    rate = DEFAULT_FBANK.sample_rate
    audio = [np.asarray(samples, np.float32) for samples in utterances]
    if not audio:
        noise = np.random.default_rng(seed).standard_normal(10 * rate)
        audio = [(0.05 * noise).astype(np.float32)]
    audio_seconds = sum(len(samples) for samples in audio) / rate
    if not audio_seconds:
        raise BundleError("the audio to measure with is empty; give longer files")
    start = time.perf_counter()
    recognizer = open_recognizer(folder, precision=precision, method=method, num_threads=num_threads)
    load_seconds = time.perf_counter() - start
    cold_seconds = sum(_run(recognizer, audio[0]))
    rounds = [[_run(recognizer, samples) for samples in audio] for _ in range(num_rounds)]
    totals = [sum(sum(times) for times in one) for one in rounds]
    calls = 1000 * np.concatenate([times for one in rounds for times in one])
    p50, p95, p99 = np.percentile(calls, (50, 95, 99))
    bundle = recognizer.bundle
    return {
        "name": Path(folder).resolve().name,
        "mode": bundle.mode,
        "precision": precision,
        "method": method,
        "num_threads": num_threads,
        "load_seconds": load_seconds,
        "cold_seconds": cold_seconds,
        "rtf": float(np.median(totals)) / audio_seconds,
        "latency_ms": {"p50": float(p50), "p95": float(p95), "p99": float(p99)},
        "chunk_ms": bundle.streaming.shift * DEFAULT_FBANK.frame_shift_ms if bundle.streaming else None,
        "audio_seconds": audio_seconds,
        "num_rounds": num_rounds,
        "model_bytes": sum(file.stat().st_size for file in bundle.files),
        "peak_rss_mb": _peak_rss_mb(),
        "machine": _describe_machine(),
    }


def _run(recognizer: OfflineRecognizer | StreamingRecognizer, samples: FloatArray) -> list[float]:
    """Seconds of each call: one per utterance, or per chunk with the audio that came for it."""
    if isinstance(recognizer, OfflineRecognizer):
        start = time.perf_counter()
        recognizer.transcribe([samples])
        return [time.perf_counter() - start]
    assert recognizer.bundle.streaming is not None
    size = recognizer.bundle.streaming.shift * DEFAULT_FBANK.frame_shift
    stream = recognizer.create_stream()
    seconds: list[float] = []
    for begin in range(0, len(samples) + size, size):
        start = time.perf_counter()
        if begin < len(samples):
            stream.accept(samples[begin : begin + size])
        else:
            stream.finish()
        ran = False
        while recognizer.is_ready(stream):
            recognizer.decode([stream])
            ran = True
        elapsed = time.perf_counter() - start
        if ran or not seconds:
            seconds.append(elapsed)
        else:  # audio that only filled the window counts towards the chunk before it
            seconds[-1] += elapsed
    return seconds


def _peak_rss_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


def _describe_machine() -> dict[str, Any]:
    import onnxruntime

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "num_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def main(argv: Sequence[str] | None = None, *, folder: str | Path = ".") -> int:
    """Print the figures of a model folder as JSON; returns the exit code, 2 for unusable input."""
    parser = argparse.ArgumentParser(prog="bench.py", description="Speed of an ONNX folder, as JSON.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio; noise of 10 seconds without")
    parser.add_argument("--bundle", default=folder, metavar="DIR", help="the model folder (%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32")
    parser.add_argument("--method", choices=("greedy", "beam"), default="greedy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    try:
        result = bench_bundle(
            args.bundle,
            precision=args.precision,
            method=args.method,
            num_threads=args.threads,
            utterances=[read_audio(name).samples for name in args.files],
            num_rounds=args.rounds,
        )
    except BundleError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
