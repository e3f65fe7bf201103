"""Measure bundles on this machine: real-time factor, latency, load time, memory and size."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from todm.files import write_json
from todm.runtime.benchmark_result import BenchmarkResult, Percentiles

HELP = "measure ONNX folders on this machine"
COLUMNS: tuple[tuple[str, int, Callable[[BenchmarkResult], str]], ...] = (
    ("runtime", 11, lambda result: result.runtime),
    ("precision", 9, lambda result: result.precision),
    ("threads", 7, lambda result: str(result.num_threads)),
    ("RTF", 7, lambda result: f"{result.rtf:.4f}"),
    ("call ms", 8, lambda result: _percentile(result.latency_ms, "p50", 2)),
    ("p95", 8, lambda result: _percentile(result.latency_ms, "p95", 2)),
    ("first ms", 8, lambda result: _percentile(result.first_token_ms, "p50", 0)),
    ("end ms", 8, lambda result: _percentile(result.end_of_speech_ms, "p50", 1)),
    ("p95", 8, lambda result: _percentile(result.end_of_speech_ms, "p95", 1)),
    ("load s", 6, lambda result: _number(result.load_seconds, 2)),
    ("RAM MB", 6, lambda result: _number(result.peak_rss_mb, 0)),
    ("MB", 6, lambda result: _number(result.model_bytes and result.model_bytes / 1e6, 2)),
)
"""Head, width and cell of each column after the name of the bundle."""
NUM_OPERATORS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``BUNDLE... --out DIR``."""
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="ONNX folders")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write DIR/<name>.json for each bundle and DIR/bench.png"
    )
    parser.add_argument(
        "--audio", type=Path, nargs="+", metavar="FILE", help="measure on these files (10 s of noise)"
    )
    parser.add_argument(
        "--runtime", nargs="+", default=["onnxruntime"], help="onnxruntime (default), sherpa-onnx, openvino"
    )
    parser.add_argument("--precision", nargs="+", help="fp32, int8, fp16; all that a bundle has by default")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads (1)")
    parser.add_argument("--rounds", type=int, default=5, help="warm passes; the median counts (5)")
    parser.add_argument("--profile", action="store_true", help="list the operators by time (onnxruntime)")
    parser.add_argument("--device", type=Path, metavar="FILE", help="threads and precision of export/devices")


def run(args: argparse.Namespace) -> None:
    """Print a table; write one JSON list per bundle and a chart."""
    from todm.commands.bench_chart import draw_chart
    from todm.commands.device_profile import load_device_profile
    from todm.errors import UserError
    from todm.runtime.benchmark import BenchmarkOptions, available_precisions, run_benchmark
    from todm.runtime.hosts import check_host
    from todm.runtime.layout import PRECISIONS

    device = load_device_profile(args.device) if args.device else None
    threads = args.threads or (device.threads if device else (1,))
    wanted = args.precision or (device.precision if device else ())
    if args.rounds < 1 or min(threads) < 1:
        raise UserError("--rounds and --threads: need at least 1")
    if unknown := set(wanted) - set(PRECISIONS):
        raise UserError(f"--precision: {', '.join(sorted(unknown))} is none of {', '.join(PRECISIONS)}")
    for runtime in args.runtime:
        check_host(runtime)
    # EXP/bundles/* holds the manifest as well.
    bundles = [bundle for bundle in args.bundles if bundle.name != "manifest.json"]
    folders = {bundle.resolve().name: bundle for bundle in bundles}
    if len(folders) < len(bundles):
        raise UserError("BUNDLE: two of them have the same name; measure them one by one")
    for bundle in bundles:
        if not bundle.is_dir():
            raise UserError(f"{bundle}: no such folder; todm export writes bundles")

    everything: list[BenchmarkResult] = []
    failures: list[str] = []
    remarks: dict[str, None] = {}
    width = max(len(name) for name in (*folders, "bundle"))
    print(_row("bundle", [head for head, _, _ in COLUMNS], width))
    for name, bundle in folders.items():
        precisions = wanted or available_precisions(bundle)
        results = []
        for runtime, precision, num_threads in product(args.runtime, precisions, threads):
            try:
                options = BenchmarkOptions(
                    runtime=runtime,
                    precision=precision,
                    num_threads=num_threads,
                    num_rounds=args.rounds,
                    profile=args.profile and runtime == "onnxruntime",
                )
                result = run_benchmark(bundle, options, args.audio or ())
            except UserError as error:
                failures.append(str(error))
                print(_row(name, (runtime, precision, str(num_threads), "failed"), width), flush=True)
                continue
            results.append(result)
            print(_row(name, [cell(result) for _, _, cell in COLUMNS], width), flush=True)
            for row in result.operators[:NUM_OPERATORS]:
                print(f"    {row.share:6.1%}  {row.model} {row.operator} ({row.calls} calls)")
            if device:
                remarks |= dict.fromkeys(device.remarks(result))
        if args.out and results:
            write_json(args.out / f"{name}.json", [result.to_dict() for result in results])
        everything += results
    if args.out and everything:
        draw_chart(everything, args.out / "bench.png")
    for remark in remarks:
        print(remark)
    if failures:
        more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
        raise UserError(failures[0] + more)


def _percentile(latency: Percentiles | None, name: str, digits: int) -> str:
    return "-" if latency is None else f"{getattr(latency, name):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _row(name: str, cells: Sequence[str], width: int) -> str:
    """Line of the table; runtime and precision are aligned to the left."""
    texts = [f"{name:<{width}}"]
    for index, (cell, (_, size, _)) in enumerate(zip(cells, COLUMNS, strict=False)):
        texts.append(f"{cell:<{size}}" if index < 2 else f"{cell:>{size}}")
    return " ".join(texts).rstrip()
