"""Measure bundles on this machine: real-time factor, latency, load time, memory and size."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import todm.api as api
from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult, Percentiles

NUM_OPERATORS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm bench``."""
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="ONNX folders")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write DIR/<name>.json for each bundle and DIR/bench.png"
    )
    parser.add_argument(
        "--audio",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="measure on these files (default: 10 s of noise)",
    )
    parser.add_argument(
        "--runtime",
        nargs="+",
        default=["onnxruntime"],
        help="onnxruntime (default), sherpa-onnx, openvino",
    )
    parser.add_argument("--precision", nargs="+", help="fp32, int8, fp16 (default: all that a bundle has)")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="numbers of threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="warm passes; the median counts (default: 5)")
    parser.add_argument("--profile", action="store_true", help="list the operators by time (onnxruntime)")
    parser.add_argument(
        "--device", type=Path, metavar="FILE", help="device profile of export/devices: threads and precision"
    )


def run(args: argparse.Namespace) -> None:
    """Print a table; write one JSON list per bundle and a chart."""
    options = api.BenchOptions(
        runtimes=tuple(args.runtime),
        precisions=tuple(args.precision) if args.precision else None,
        num_threads=tuple(args.threads) if args.threads else None,
        audio=tuple(args.audio),
        num_rounds=args.rounds,
        profile=args.profile,
        device=args.device,
    )
    bundles = [
        path for path in args.bundles if path.is_dir() or path.suffix != ".json"
    ]  # EXP/bundles/* has one
    table = _Table(max(len(name) for name in (*(path.resolve().name for path in bundles), "bundle")))
    result = api.bench_bundles(bundles, options, out=args.out, on_result=table.print)
    for remark in result.remarks:
        print(remark)
    if result.failures:
        more = len(result.failures) - 1
        raise UserError(result.failures[0].reason + (f" (and {more} more failed)" if more else ""))


@dataclass(frozen=True)
class _Column:
    """One column: head, width and the cell of a benchmark."""

    head: str
    width: int
    cell: Callable[[BenchmarkResult], str]


COLUMNS = (
    _Column("runtime", -11, lambda result: result.runtime),
    _Column("precision", -9, lambda result: result.precision),
    _Column("threads", 7, lambda result: str(result.num_threads)),
    _Column("RTF", 7, lambda result: _number(result.rtf, 4)),
    _Column("call ms", 8, lambda result: _percentile(result.latency_ms, "p50", 2)),
    _Column("p95", 8, lambda result: _percentile(result.latency_ms, "p95", 2)),
    _Column("first ms", 8, lambda result: _percentile(result.first_token_ms, "p50", 0)),
    _Column("end ms", 8, lambda result: _percentile(result.end_of_speech_ms, "p50", 1)),
    _Column("p95", 8, lambda result: _percentile(result.end_of_speech_ms, "p95", 1)),
    _Column("load s", 6, lambda result: _number(result.load_seconds, 2)),
    _Column("RAM MB", 6, lambda result: _number(result.peak_rss_mb, 0)),
    _Column("MB", 6, lambda result: _number((result.model_bytes or 0) / 1e6, 2)),
)
"""Columns after the bundle's name; a negative width aligns to the left."""


def _percentile(latency: Percentiles | None, name: str, digits: int) -> str:
    return "-" if latency is None else f"{getattr(latency, name):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


class _Table:
    """Prints benchmarks line by line."""

    def __init__(self, name_width: int) -> None:
        self._columns = (_Column("bundle", -name_width, lambda result: result.name), *COLUMNS)
        self._has_head = False

    def print(self, result: BenchmarkResult | api.BenchFailure) -> None:
        """Print one benchmark or failure, after the heads."""
        if not self._has_head:
            self._print_cells([column.head for column in self._columns])
            self._has_head = True
        if isinstance(result, api.BenchFailure):
            threads = str(result.num_threads)
            self._print_cells([result.bundle, result.runtime, result.precision, threads, "failed"])
            return
        self._print_cells([column.cell(result) for column in self._columns])
        for row in result.operators[:NUM_OPERATORS]:
            print(f"    {row.share:6.1%}  {row.model} {row.operator} ({row.calls} calls)")

    def _print_cells(self, cells: list[str]) -> None:
        aligned = (
            f"{cell:<{-column.width}}" if column.width < 0 else f"{cell:>{column.width}}"
            for column, cell in zip(self._columns, cells, strict=False)
        )
        print(" ".join(aligned).rstrip(), flush=True)
