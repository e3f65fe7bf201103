"""Time per operator, measured by the profiler of onnxruntime."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .benchmark_result import OperatorTime
from .bundle import describe_bundle
from .decoding import Method, make_search
from .fbank import FloatArray
from .hosts.ort import RecognizerHost
from .layout import MODEL_NAMES, Precision
from .offline import OfflineRecognizer
from .streaming import StreamingRecognizer
from .timing import time_utterance


def profile_operators(
    folder: Path,
    *,
    precision: Precision,
    method: Method,
    num_threads: int,
    utterances: Sequence[FloatArray],
) -> tuple[OperatorTime, ...]:
    """Measure the time per model and operator over one warm pass.

    The profiler adds time to every node, which overstates small operators.

    Args:
        folder: the model folder.
        precision: precision of the opened files.
        method: ``greedy`` or ``beam``.
        num_threads: threads of onnxruntime, at least 1.
        utterances: each (num_samples,) mono at 16 kHz.

    Returns:
        one entry per model and operator, the largest share first.
    """
    import onnxruntime

    bundle = describe_bundle(folder, precision)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        sessions = {}
        for name, file in zip(MODEL_NAMES, bundle.files, strict=True):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = num_threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(place) / name)
            sessions[name] = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        bundle = replace(bundle, **sessions)
        search = make_search(bundle, method)
        host = RecognizerHost(
            StreamingRecognizer(bundle, search)
            if bundle.mode == "streaming"
            else OfflineRecognizer(bundle, search)
        )
        for samples in utterances:
            time_utterance(host, samples)
        for name, session in sessions.items():
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            for event in events:
                if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                    times[name, event["args"]["op_name"]].append(event["dur"] / 1000)
    total = sum(sum(values) for values in times.values()) or 1.0
    rows = [
        OperatorTime(
            model=model,
            operator=operator,
            calls=len(values),
            ms=sum(values),
            share=sum(values) / total,
        )
        for (model, operator), values in times.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.share))
