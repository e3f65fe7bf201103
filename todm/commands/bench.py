"""Measure bundles on this machine: real-time factor, latency, load time, memory and size."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "measure ONNX folders on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``BUNDLE... --out DIR``."""
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="ONNX folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/<name>.json for each bundle")
    parser.add_argument("--audio", type=Path, nargs="+", metavar="FILE", help="measure on these files")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="warm passes; the median counts (default 5)")


def run(args: argparse.Namespace) -> None:
    """Print a table; write one JSON list per bundle."""
    from todm.errors import UserError
    from todm.runtime.audio import read_audio
    from todm.runtime.bench import bench_bundle

    if args.rounds < 1 or min(args.threads) < 1:
        raise UserError("--rounds and --threads: need at least 1")
    utterances = [read_audio(path).samples for path in args.audio or []]
    print(f"{'bundle':<24} {'precision':<9} {'threads':>7} {'RTF':>8} {'p50 ms':>8} {'p95 ms':>8} {'MB':>7}")
    for bundle in args.bundles:
        results = []
        precisions = ["fp32"] + (["int8"] if (bundle / "encoder.int8.onnx").is_file() else [])
        for precision in precisions:
            for threads in args.threads:
                result = bench_bundle(
                    bundle,
                    precision=precision,  # type: ignore[arg-type]
                    num_threads=threads,
                    utterances=utterances,
                    num_rounds=args.rounds,
                )
                results.append(result)
                latency = result["latency_ms"]
                print(
                    f"{bundle.name:<24} {precision:<9} {threads:>7} {result['rtf']:>8.4f} "
                    f"{latency['p50']:>8.2f} {latency['p95']:>8.2f} {result['model_bytes'] / 1e6:>7.2f}",
                    flush=True,
                )
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / f"{bundle.name}.json").write_text(json.dumps(results, indent=1) + "\n")
