"""Measure bundles on this machine: real-time factor, latency, load time, memory and size."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import todm.api as api
from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult
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
        metavar="NAME",
        help="onnxruntime (default), sherpa-onnx, openvino",
    )
    parser.add_argument(
        "--precision", nargs="+", metavar="NAME", help="fp32, int8, fp16 (default: all that a bundle has)"
    )
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="numbers of threads (default: 1)")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="warm passes; the median counts (default: 5)"
    )
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
    # EXP/bundles/* contains the manifest as well.
    bundles = [path for path in args.bundles if path.is_dir() or path.suffix != ".json"]
    printer = _Printer(path.resolve().name for path in bundles)
    result = api.bench_bundles(bundles, options, out=args.out, on_result=printer.print)
    for remark in result.remarks:
        print(remark)
    if result.failures:
        more = len(result.failures) - 1
        raise UserError(result.failures[0].reason + (f" (and {more} more failed)" if more else ""))


def _make_columns(name_width: int) -> list[Column[Any]]:
    """Columns of a benchmark; a failure has the first four."""

    def percentile(head: str, latency: str, name: str, form: str) -> Column[Any]:
        return Column(head, lambda result: getattr(getattr(result, latency), name, None), form, width=8)

    return [
        Column("bundle", lambda result: result.name, left=True, width=name_width),
        Column("runtime", lambda result: result.runtime, left=True, width=11),
        Column("precision", lambda result: result.precision, left=True, width=9),
        Column("threads", lambda result: result.num_threads, width=7),
        Column("RTF", lambda result: result.rtf, "{:.4f}", width=7),
        percentile("call ms", "latency_ms", "p50", "{:.2f}"),
        percentile("p95", "latency_ms", "p95", "{:.2f}"),
        percentile("first ms", "first_token_ms", "p50", "{:.0f}"),
        percentile("end ms", "end_of_speech_ms", "p50", "{:.1f}"),
        percentile("p95", "end_of_speech_ms", "p95", "{:.1f}"),
        Column("load s", lambda result: result.load_seconds, "{:.2f}", width=6),
        Column("RAM MB", lambda result: result.peak_rss_mb, "{:.0f}", width=6),
        Column("MB", lambda result: (result.model_bytes or 0) / 1e6, "{:.2f}", width=6),
    ]


class _Printer:
    """Prints benchmarks line by line."""

    def __init__(self, names: Iterable[str]) -> None:
        columns = _make_columns(max(len(name) for name in (*names, "bundle")))
        self._table: Table[BenchmarkResult] = Table(*columns)
        self._failures: Table[api.BenchFailure] = Table(*columns[:4], Column("", lambda _: "failed"))
        self._has_head = False

    def print(self, result: BenchmarkResult | api.BenchFailure) -> None:
        """Print one benchmark or failure, after the heads."""
        if not self._has_head:
            print(self._table.head_line())
            self._has_head = True
        if isinstance(result, api.BenchFailure):
            print(self._failures.row_line(result), flush=True)
            return
        print(self._table.row_line(result), flush=True)
        for row in result.operators[:NUM_OPERATORS]:
            print(f"    {row.share:6.1%}  {row.model} {row.operator} ({row.calls} calls)")
