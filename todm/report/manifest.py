"""One ``manifest.json`` about all bundles of a run: an app picks by memory, cores and speed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from todm.errors import UserError
from todm.files import write_json
from todm.report.gather import LADDER, Run, Size
from todm.runtime.benchmark_result import BenchmarkResult
from todm.runtime.layout import MODEL_NAMES, BundleFiles
from todm.search.front import Point
from todm.search.latency import FIGURES, DeviceTable
from todm.space.cost import count_macs, count_state_bytes

MANIFEST = "manifest.json"
FORMAT = 1


def write_manifest(run: Run) -> Path | None:
    """Write ``EXP/bundles/manifest.json``, in one step; None where the run has no bundles."""
    entries = manifest_entries(run)
    if not entries:
        return None
    path = run.exp / "bundles" / MANIFEST
    write_json(path, {"format": FORMAT, "sizes": entries})
    return path


def manifest_entries(run: Run) -> list[dict[str, Any]]:
    """One dict for each bundle, smallest first within a mode.

    Keys: ``name`` and ``folder`` (relative to the manifest), ``mode``, ``chunk_ms`` (streaming), ``spec``,
    ``params``, ``macs_per_second`` (of audio), ``state_bytes`` (of a stream), ``chosen_for`` (why the search
    chose it), ``files`` (names and ``bytes`` by precision), ``wer`` (percent by part, and ``wer_int8``),
    ``measured`` (by ``todm bench``: precision, threads, ``rtf``, ``latency_p95_ms``, ``memory_mb`` above the
    bare runtime) and ``predicted`` (the same by device, precision and threads, from the tables of ``todm
    latency``).
    What is not known is null or left out.
    """
    points = {point.spec: point for point in run.evaluated.front}
    sizes = sorted((s for s in run.sizes if s.bundle), key=lambda s: (s.spec.mode, s.params or 0, s.name))
    # A net that was trained on has another name, and numbers its layers anew.
    names = (*LADDER, *(spec.name for spec in points))
    return [_entry(run, s, points.get(s.spec) if s.name in names else None) for s in sizes]


def _entry(run: Run, size: Size, point: Point | None) -> dict[str, Any]:
    config = run.config
    known = config is not None and size.vocab_size is not None
    return {
        "name": size.name,
        "folder": size.name,
        "subnet": f"../subnets/{size.name}",
        "mode": size.spec.mode,
        "chunk_ms": _chunk_ms(run.exp / "bundles" / size.name) if size.spec.mode == "streaming" else None,
        "spec": size.spec.to_dict(),
        "params": size.params,
        "macs_per_second": count_macs(config.model, size.spec, size.vocab_size or 0)
        if config and known
        else None,
        "state_bytes": count_state_bytes(config.model, size.spec) if config else None,
        "chosen_for": list(point.chosen) if point else [],
        "files": _files(run.exp / "bundles" / size.name),
        "wer": dict(size.wer),
        "wer_int8": _quantised_wer(size),
        "measured": [_measured(item) for item in run.benchmarks if item.name == size.name],
        "predicted": list(_predicted(run.devices, size)),
    }


def _quantised_wer(size: Size) -> dict[str, float]:
    wer = size.parity.get("wer onnx int8")
    return {str(size.parity.get("part")): float(wer)} if isinstance(wer, int | float) else {}


def _chunk_ms(bundle: Path) -> float | None:
    from todm.config_io import load_config

    try:
        return load_config(bundle / "config.yaml").export.chunk_ms
    except UserError:
        return None


def _files(bundle: Path) -> dict[str, Any]:
    """What each precision opens; a part without a file of its own is the float one."""
    layout = BundleFiles(bundle)
    files: dict[str, Any] = {}
    for precision in layout.precisions:
        names = {name: layout.opened(name, precision).name for name in MODEL_NAMES}
        files[precision] = {**names, "bytes": layout.num_bytes(precision)}
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
            if fit.way.mode != size.spec.mode or fit.beyond(size.spec):
                continue
            figures: dict[str, float] = {figure: fit.models[figure](size.spec) for figure in FIGURES}
            yield {
                "device": table.device,
                "precision": fit.way.precision,
                "threads": fit.way.num_threads,
                **figures,
            }
