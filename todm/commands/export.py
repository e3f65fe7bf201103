"""Write ONNX folders (bundles) that run in a stock device runtime, without torch."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

HELP = "write ONNX folders, fp32 and int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which subnets, and how they are exported."""
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="export every folder of EXP/subnets")
    parser.add_argument("--model", type=Path, metavar="SUBNET", help="export this subnet folder only")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the bundle (with --model)")
    parser.add_argument("--chunk-ms", type=int, help="audio per call of a streaming encoder, milliseconds")
    parser.add_argument("--opset", type=int, help="ONNX operator set, 18 to 26")
    parser.add_argument("--no-int8", action="store_true", help="write the float files only")


def run(args: argparse.Namespace) -> None:
    """Export, quantise, add the runtime, and check against the host's contract."""
    from todm.deploy.bundle import write_bundle
    from todm.errors import UserError
    from todm.model_dir import load_subnet

    if (args.exp_dir is None) == (args.model is None):
        raise UserError("give either --exp-dir EXP (all its subnets) or --model SUBNET with --out DIR")
    if args.model is not None:
        if args.out is None:
            raise UserError("--out: missing; name the folder of the bundle")
        jobs = [(args.model, args.out)]
    else:
        subnets = sorted(path.parent for path in (args.exp_dir / "subnets").glob("*/spec.json"))
        if not subnets:
            raise UserError(f"{args.exp_dir / 'subnets'}: no subnets there; run 'todm extract' first")
        jobs = [(path, args.exp_dir / "bundles" / path.name) for path in subnets]
    for source, target in jobs:
        net, config = load_subnet(source)
        settings = config.export
        if args.chunk_ms is not None:
            settings = replace(settings, chunk_ms=args.chunk_ms)
        if args.opset is not None:
            settings = replace(settings, opset=args.opset)
        if args.no_int8:
            settings = replace(settings, int8=False)
        sizes = write_bundle(net, replace(config, export=settings), source, target)
        print(f"{target}: " + ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))
