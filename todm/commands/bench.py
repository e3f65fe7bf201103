"""Measure bundles on this machine: real-time factor, latency, load time, memory and size."""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from todm.files import write_json

HELP = "measure ONNX folders on this machine"
COLUMNS = (
    "bundle", "runtime", "precision", "threads", "RTF", "call ms", "p95", "first ms", "end ms", "p95",
    "load s", "RAM MB", "MB",
)  # fmt: skip
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
    from todm.runtime.bench import available_precisions, bench_apart
    from todm.runtime.errors import BundleError
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

    everything: list[dict[str, Any]] = []
    failures: list[str] = []
    remarks: dict[str, None] = {}
    width = max(len(name) for name in (*folders, "bundle"))
    print(_row(COLUMNS, width))
    for name, bundle in folders.items():
        precisions = wanted or available_precisions(bundle)
        results = []
        for runtime, precision, num_threads in product(args.runtime, precisions, threads):
            try:
                result = bench_apart(
                    bundle,
                    runtime=runtime,
                    precision=precision,
                    num_threads=num_threads,
                    files=args.audio or (),
                    num_rounds=args.rounds,
                    profile=args.profile and runtime == "onnxruntime",
                )
            except BundleError as error:
                failures.append(str(error))
                print(_row((name, runtime, precision, str(num_threads), "failed"), width), flush=True)
                continue
            results.append(result)
            print(_row(_cells(result), width), flush=True)
            for row in result.get("operators", [])[:NUM_OPERATORS]:
                print(f"    {row['share']:6.1%}  {row['model']} {row['operator']} ({row['calls']} calls)")
            if device:
                remarks |= dict.fromkeys(device.remarks(result))
        if args.out and results:
            write_json(args.out / f"{name}.json", results)
        everything += results
    if args.out and everything:
        draw_chart(everything, args.out / "bench.png")
    for remark in remarks:
        print(remark)
    if failures:
        more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
        raise UserError(failures[0] + more)


def _cells(result: dict[str, Any]) -> tuple[str, ...]:
    latency, first, end = (result[key] for key in ("latency_ms", "first_token_ms", "end_of_speech_ms"))
    peak = result["peak_rss_mb"]
    return (
        result["name"],
        result["runtime"],
        result["precision"],
        str(result["num_threads"]),
        f"{result['rtf']:.4f}",
        f"{latency['p50']:.2f}",
        f"{latency['p95']:.2f}",
        "-" if first is None else f"{first['p50']:.0f}",
        f"{end['p50']:.1f}",
        f"{end['p95']:.1f}",
        f"{result['load_seconds']:.2f}",
        "-" if peak is None else f"{peak:.0f}",
        f"{result['model_bytes'] / 1e6:.2f}",
    )


def _row(cells: tuple[str, ...], width: int) -> str:
    widths = (width, 11, 9, 7, 7, 8, 8, 8, 8, 8, 6, 6, 6)
    texts = (
        f"{cell:<{size}}" if index < 3 else f"{cell:>{size}}"
        for index, (cell, size) in enumerate(zip(cells, widths, strict=False))
    )
    return " ".join(texts).rstrip()
