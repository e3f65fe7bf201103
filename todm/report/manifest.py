"""Manifest of the bundles of a run, from which an application chooses by memory, cores and speed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from todm.config import load_config
from todm.errors import UserError
from todm.files import write_json
from todm.layout import RunFolder
from todm.report.contents import LADDER, RunContents, Size
from todm.runtime.benchmark_result import BenchmarkResult
from todm.runtime.bundle import describe_bundle
from todm.runtime.constants import FRAME_SHIFT_MS
from todm.runtime.layout import MODEL_NAMES, BundleFiles
from todm.search.front import Point
from todm.search.latency import FIGURES, DeviceTable
from todm.space.cost import count_macs, count_state_bytes

FORMAT = 1


def write_manifest(run: RunContents) -> Path | None:
    """Write ``EXP/bundles/manifest.json``; returns None for a run without bundles."""
    entries = manifest_entries(run)
    if not entries:
        return None
    path = RunFolder(run.exp).manifest
    write_json(path, {"format": FORMAT, "sizes": entries})
    return path


def manifest_entries(run: RunContents) -> list[dict[str, Any]]:
    """Describe each bundle for JSON, smallest first within a mode.

    Keys: ``name`` and ``folder`` (relative to the manifest), ``mode``, ``chunk_ms`` (streaming), ``spec``,
    ``params``, ``macs_per_second`` (per second of audio), ``state_bytes`` (per stream), ``tail_ms`` (silence
    that a streaming net needs after an utterance), ``chosen_for`` (reasons of the search), ``files`` (names
    and ``bytes`` by precision), ``wer`` (percent by part), ``verified`` (``part``, number of ``utterances``
    and ``wer`` by precision on these, by ``todm verify``), ``measured`` (by ``todm bench``: precision,
    threads, ``rtf``, ``latency_p95_ms``, ``memory_mb`` without the bare runtime) and ``predicted`` (the same
    by device, precision and threads, from the tables of ``todm latency``). Unknown values are null or left
    out.
    """
    points = {point.spec: point for point in run.search.front}
    sizes = sorted((s for s in run.sizes if s.bundle), key=lambda s: (s.spec.mode, s.params or 0, s.name))
    # Fine-tuned subnets have other names, and specs with renumbered layers that may equal others.
    names = (*LADDER, *(spec.name for spec in points))
    return [_describe(run, s, points.get(s.spec) if s.name in names else None) for s in sizes]


def _describe(run: RunContents, size: Size, point: Point | None) -> dict[str, Any]:
    config, bundle = run.config, BundleFiles(RunFolder(run.exp).bundle(size.name))
    known = config is not None and size.vocab_size is not None
    return {
        "name": size.name,
        "folder": size.name,
        "subnet": f"../subnets/{size.name}",
        "mode": size.spec.mode,
        "chunk_ms": _chunk_ms(bundle) if size.spec.mode == "streaming" else None,
        "spec": size.spec.to_dict(),
        "params": size.params,
        "macs_per_second": count_macs(config.model, size.spec, size.vocab_size or 0)
        if config and known
        else None,
        "state_bytes": count_state_bytes(config.model, size.spec) if config else None,
        "tail_ms": _tail_ms(bundle),
        "chosen_for": list(point.chosen) if point else [],
        "files": _files(bundle),
        "wer": dict(size.wer),
        "verified": {
            "part": size.parity.get("part"),
            "utterances": size.parity.get("utterances"),
            "wer": size.verified_wer,
        }
        if size.verified_wer
        else None,
        "measured": [_measured(item) for item in run.benchmarks if item.name == size.name],
        "predicted": list(_predicted(run.devices, size)),
    }


def _chunk_ms(bundle: BundleFiles) -> float | None:
    try:
        return load_config(bundle.config, saved=True).export.chunk_ms
    except UserError:
        return None


def _tail_ms(bundle: BundleFiles) -> float | None:
    """Silence that a streaming bundle needs after an utterance, milliseconds."""
    try:
        streaming = describe_bundle(bundle.folder).streaming
    except UserError:
        return None
    return None if streaming is None else streaming.tail_frames * FRAME_SHIFT_MS


def _files(bundle: BundleFiles) -> dict[str, Any]:
    """Names and total size of the files that each precision opens."""
    files: dict[str, Any] = {}
    for precision in bundle.precisions:
        names = {name: bundle.opened(name, precision).name for name in MODEL_NAMES}
        files[precision] = {**names, "bytes": bundle.num_bytes(precision)}
    return files


def _measured(item: BenchmarkResult) -> dict[str, Any]:
    p95 = math.nan if item.latency_ms is None else item.latency_ms.p95
    return {
        "runtime": item.runtime,
        "precision": item.precision,
        "threads": item.num_threads,
        "rtf": item.rtf,
        "latency_p95_ms": None if math.isnan(p95) else p95,
        "memory_mb": item.memory_mb,
    }


def _predicted(devices: Iterable[DeviceTable], size: Size) -> Iterable[dict[str, Any]]:
    for table in devices:
        for fit in table.fits:
            if fit.run_mode.mode != size.spec.mode or fit.beyond(size.spec):
                continue
            figures: dict[str, float] = {figure: fit.models[figure](size.spec) for figure in FIGURES}
            yield {
                "device": table.device,
                "precision": fit.run_mode.precision,
                "threads": fit.run_mode.num_threads,
                **figures,
            }
