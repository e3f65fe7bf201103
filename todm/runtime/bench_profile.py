"""Which operators the time goes to, by onnxruntime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .bench_measure import time_utterance
from .fbank import FloatArray
from .hosts.describe import describe_bundle
from .hosts.ort import RecognizerHost
from .layout import Precision
from .offline import OfflineRecognizer
from .searches import Method, make_search
from .streaming import StreamingRecognizer


def profile_operators(
    folder: Path,
    *,
    precision: Precision,
    method: Method,
    num_threads: int,
    utterances: Sequence[FloatArray],
) -> list[dict[str, Any]]:
    """Time per model and operator over one warm pass.

    The profiler itself costs time for every node, so small operators look larger than they are.

    Args:
        folder: the model folder.
        precision: which files.
        method: ``greedy`` or ``beam``.
        num_threads: of onnxruntime.
        utterances: each (num_samples,) mono at 16 kHz.

    Returns:
        ``model`` (encoder, decoder or joiner), ``operator``, ``calls``, ``ms`` and ``share`` (of all
        operators' time together), the largest share first.
    """
    import onnxruntime

    bundle = describe_bundle(folder, precision)
    names = ("encoder", "decoder", "joiner")
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        sessions = {}
        for name, file in zip(names, bundle.files, strict=True):
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
        {
            "model": model,
            "operator": operator,
            "calls": len(values),
            "ms": sum(values),
            "share": sum(values) / total,
        }
        for (model, operator), values in times.items()
    ]
    return sorted(rows, key=lambda row: -float(str(row["share"])))
