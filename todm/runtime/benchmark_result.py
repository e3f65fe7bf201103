"""Typed results of `todm bench`, and the JSON files that store them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import UserError


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Percentiles of a latency, milliseconds; NaN where an older file lacks one."""

    p50: float = math.nan
    p95: float = math.nan
    p99: float = math.nan

    def to_dict(self) -> dict[str, float]:
        """Known percentiles by name."""
        return {name: value for name, value in asdict(self).items() if not math.isnan(value)}


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """Time spent in one kind of operator of one model.

    Args:
        model: ``encoder``, ``decoder`` or ``joiner``.
        operator: ONNX operator.
        calls: number of executions.
        ms: total, milliseconds.
        share: fraction of the time of all operators, 0 to 1.
    """

    model: str
    operator: str
    calls: int
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Speed, latency, memory and size of one bundle in one configuration.

    Only `name` and `rtf` are always known: the other fields have defaults for files of older versions.

    Args:
        name: name of the bundle.
        rtf: real-time factor (seconds of work per second of audio), median over the warm passes.
        rtf_least: real-time factor of the fastest pass, the least disturbed by other processes.
        mode: ``offline`` or ``streaming``.
        runtime, precision, method, num_threads: configuration.
        spec: content of ``spec.json``; None without such a file.
        chunk_ms: audio per chunk, milliseconds; None for offline models.
        latency_ms: time per encoder call (streaming) or per utterance (offline).
        first_token_ms: time from the first sample to the first text; None without any text.
        end_of_speech_ms: time from the last sample to the final text.
        import_seconds: import of the runtime's packages, near 0 if they were imported before.
        load_seconds: opening of the model.
        cold_seconds: work for the first utterance after loading.
        cold_first_token_ms, cold_end_of_speech_ms: latencies of that utterance.
        audio_seconds: duration of all utterances together.
        num_utterances, num_rounds: amount of audio and number of warm passes.
        model_bytes: size of the opened ONNX files together.
        file_bytes: size of each of them by name.
        start_rss_mb: peak memory of the process before the model was opened, 2^20 bytes; None where unknown.
        peak_rss_mb: peak memory of the process, 2^20 bytes; None where unknown.
        texts: transcripts of the last pass.
        machine: description of the machine.
        operators: time by operator, the largest first; empty without profiling.
    """

    name: str
    rtf: float
    rtf_least: float | None = None
    mode: str | None = None
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    method: str = "greedy"
    num_threads: int = 1
    spec: Mapping[str, Any] | None = None
    chunk_ms: float | None = None
    latency_ms: Percentiles | None = None
    first_token_ms: Percentiles | None = None
    end_of_speech_ms: Percentiles | None = None
    import_seconds: float | None = None
    load_seconds: float | None = None
    cold_seconds: float | None = None
    cold_first_token_ms: float | None = None
    cold_end_of_speech_ms: float | None = None
    audio_seconds: float | None = None
    num_utterances: int | None = None
    num_rounds: int | None = None
    model_bytes: int | None = None
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    start_rss_mb: float | None = None
    peak_rss_mb: float | None = None
    texts: tuple[str, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    operators: tuple[OperatorTime, ...] = ()

    @property
    def memory_mb(self) -> float | None:
        """Memory of the model, 2^20 bytes: peak minus the memory before it was opened; None where unknown."""
        known = self.start_rss_mb is not None and self.peak_rss_mb is not None
        return self.peak_rss_mb - self.start_rss_mb if known else None  # type: ignore[operator]

    def to_dict(self) -> dict[str, Any]:
        """Convert into values for JSON."""
        values = asdict(self)
        for key in _LATENCIES:
            latency: Percentiles | None = getattr(self, key)
            values[key] = None if latency is None else latency.to_dict()
        values["texts"] = list(self.texts)
        if not self.operators:
            del values["operators"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> BenchmarkResult:
        """Read `to_dict`'s values, also those of older versions; unknown keys are ignored.

        Args:
            values: content of a JSON file.
            source: name of the file, for error messages.

        Raises:
            UserError: a value is missing or has the wrong type.
        """
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        try:
            known["name"], known["rtf"] = str(known["name"]), float(known["rtf"])
            for key in _LATENCIES:
                if known.get(key) is not None:
                    known[key] = Percentiles(**{name: float(known[key][name]) for name in known[key]})
            for key in ("rtf_least", "chunk_ms"):
                if known.get(key) is not None:
                    known[key] = float(known[key])
            known["num_threads"] = int(known.get("num_threads", 1))
            known["texts"] = tuple(known.get("texts", ()))
            known["operators"] = tuple(OperatorTime(**item) for item in known.get("operators", ()))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{source}: not a result of todm bench ({type(error).__name__}: {error}); "
                "measure the bundle again"
            ) from None
        return cls(**known)


_LATENCIES = ("latency_ms", "first_token_ms", "end_of_speech_ms")


def read_results(path: Path) -> list[BenchmarkResult]:
    """Read a file of ``todm bench`` or ``push_and_bench.sh``: one result or a list of results.

    Raises:
        UserError: the file cannot be read, or it contains something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); measure the bundle again") from None
    items = data if isinstance(data, list) else [data]
    if not items or not all(isinstance(item, dict) for item in items):
        raise UserError(f"{path}: not a result of todm bench; measure the bundle again")
    return [BenchmarkResult.from_dict({"name": path.stem, **item}, str(path)) for item in items]
