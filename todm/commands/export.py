"""Export subnets as ONNX bundles, folders that run in a stock device runtime without torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import todm
import todm.api as api
from todm.commands import take_settings
from todm.errors import UserError
from todm.layout import ModelFolder, RunFolder

if TYPE_CHECKING:
    from todm.api.results import ExportedBundle, ExportResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm export``."""
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="export every folder of EXP/subnets")
    parser.add_argument(
        "--pareto", action="store_true", help="only the specs that 'todm search' chose (with --exp-dir)"
    )
    parser.add_argument("--model", type=Path, metavar="SUBNET", help="export only this subnet folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the bundle (with --model)")
    parser.add_argument(
        "--guard-corpus-dir", type=Path, metavar="DIR", help="corpus for the int8 accuracy check"
    )
    parser.add_argument("--guard-part", metavar="PART", help="part of that corpus")
    parser.add_argument(
        "--guard-utterances",
        type=int,
        default=0,
        metavar="N",
        help="utterances of the accuracy check at most (default: all)",
    )
    take_settings(
        parser,
        "Settings of the export can be overridden, for example --export.fp16 true --export.chunk_ms 640.",
    )


def run(args: argparse.Namespace) -> None:
    """Export, quantize, check, and print sizes and accuracy."""
    if (args.exp_dir is None) == (args.model is None):
        raise UserError("give either --exp-dir EXP (all its subnets) or --model SUBNET with --out DIR")
    if args.model is not None and args.out is None:
        raise UserError("--out: missing; name the folder of the bundle")
    if args.pareto and args.model is not None:
        raise UserError("--pareto: needs --exp-dir EXP; leave it out with --model")
    result = _export(args)
    for bundle in result.bundles:
        _print_bundle(bundle)
    if result.manifest is not None:
        print(result.manifest)
    for hint in result.hints:
        print(f"todm: note: {hint}", file=sys.stderr)
    if result.failures:
        raise UserError("; ".join(result.failures))


def _export(args: argparse.Namespace) -> ExportResult:
    if args.exp_dir is not None:
        subnets = RunFolder(args.exp_dir).find_subnets()
        settings = _read_settings(subnets[0], args.overrides) if subnets else {}
        return todm.Run(args.exp_dir).export(
            pareto=args.pareto,
            guard_corpus_dir=args.guard_corpus_dir,
            guard_part=args.guard_part,
            guard_utterances=args.guard_utterances,
            **settings,
        )
    settings = _read_settings(args.model, args.overrides)
    audio = api.load_guard_audio(args.guard_corpus_dir, args.guard_part, args.guard_utterances)
    return api.export_subnets([(args.model, args.out)], guard_audio=audio, settings=settings)


def _read_settings(subnet: Path, overrides: Sequence[str]) -> dict[str, Any]:
    config = ModelFolder(subnet).config
    if not config.is_file():
        raise UserError(f"{subnet}: no subnet there; name a folder of EXP/subnets")
    return api.read_overrides(config, "export", overrides)


def _print_bundle(bundle: ExportedBundle) -> None:
    sizes = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in bundle.num_bytes.items())
    print(f"{bundle.folder}: {sizes}")
    if (guard := bundle.guard) is not None:
        excluded = f"in float: {', '.join(guard.excluded)}" if guard.excluded else "all products in int8"
        print(
            f"  WER {guard.wer['fp32']:.2f}% in fp32, {guard.wer['int8']:.2f}% in int8 on "
            f"{guard.num_utterances} utterances of {guard.part} (tolerance: {guard.tolerance:.2f} points); "
            f"{excluded}"
        )
