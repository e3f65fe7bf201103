"""Measure bundles on this machine: real-time factor, latency, load time, memory and size."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import todm.api as api
from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult, Percentiles
from todm.tables import Column, Table

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
    printer = _Printer(max(len(name) for name in (*(path.resolve().name for path in bundles), "bundle")))
    result = api.bench_bundles(bundles, options, out=args.out, on_result=printer.print)
    for remark in result.remarks:
        print(remark)
    if result.failures:
        more = len(result.failures) - 1
        raise UserError(result.failures[0].reason + (f" (and {more} more failed)" if more else ""))


class _Printer:
    """Prints benchmarks line by line."""

    def __init__(self, name_width: int) -> None:
        self._table = Table[BenchmarkResult](
            Column("bundle", lambda result: result.name, left=True, width=name_width),
            Column("runtime", lambda result: result.runtime, left=True, width=11),
            Column("precision", lambda result: result.precision, left=True, width=9),
            Column("threads", lambda result: result.num_threads, width=7),
            Column("RTF", lambda result: result.rtf, "{:.4f}", width=6),
            _latency_column("call ms", lambda result: result.latency_ms, "p50", "{:.2f}"),
            _latency_column("p95", lambda result: result.latency_ms, "p95", "{:.2f}"),
            _latency_column("first ms", lambda result: result.first_token_ms, "p50", "{:.0f}"),
            _latency_column("end ms", lambda result: result.end_of_speech_ms, "p50", "{:.1f}"),
            _latency_column("p95", lambda result: result.end_of_speech_ms, "p95", "{:.1f}"),
            Column("load s", lambda result: result.load_seconds, "{:.2f}", width=6),
            Column("RAM MB", lambda result: result.peak_rss_mb, "{:.0f}", width=6),
            Column("MB", lambda result: (result.model_bytes or 0) / 1e6, "{:.2f}", width=6),
        )
        self._has_head = False

    def print(self, result: BenchmarkResult | api.BenchFailure) -> None:
        """Print one benchmark or failure, after the heads."""
        if not self._has_head:
            print(self._table.head_line(), flush=True)
            self._has_head = True
        if isinstance(result, api.BenchFailure):
            cells = [result.bundle, result.runtime, result.precision, str(result.num_threads), "failed"]
            print(self._table.cells_line(cells), flush=True)
            return
        print(self._table.row_line(result), flush=True)
        for row in result.operators[:NUM_OPERATORS]:
            print(f"    {row.share:6.1%}  {row.model} {row.operator} ({row.calls} calls)")


def _latency_column(
    head: str, latency: Callable[[BenchmarkResult], Percentiles | None], percentile: str, form: str
) -> Column[BenchmarkResult]:
    def value(result: BenchmarkResult) -> float | None:
        found = latency(result)
        return None if found is None else found.to_dict().get(percentile)

    return Column(head, value, form, width=8)
