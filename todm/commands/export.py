"""Write ONNX folders (bundles) that run in a stock device runtime, without torch."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from todm.deploy.guard import LabelledAudio


HELP = "write ONNX folders, fp32 and int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which subnets, and how they are exported."""
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="export every folder of EXP/subnets")
    parser.add_argument(
        "--pareto", action="store_true", help="of these only the sizes that 'todm search' chose"
    )
    parser.add_argument("--model", type=Path, metavar="SUBNET", help="export this subnet folder only")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the bundle (with --model)")
    parser.add_argument("--chunk-ms", type=int, help="audio per call of a streaming encoder, milliseconds")
    parser.add_argument("--opset", type=int, help="ONNX operator set, 18 to 26")
    parser.add_argument("--fp16", action="store_true", help="also write files with half precision weights")
    parser.add_argument("--no-int8", action="store_true", help="leave the int8 files out")
    parser.add_argument(
        "--static", action="store_true", help="int8 with fixed scales (QDQ), taken from the guard's speech"
    )
    parser.add_argument("--per-tensor", action="store_true", help="int8 with one scale for a whole weight")
    parser.add_argument(
        "--reduce-range", action="store_true", help="7-bit weights, for x86 processors without VNNI"
    )
    parser.add_argument("--exclude", nargs="+", metavar="NODE", help="matrix products to leave in float")
    parser.add_argument(
        "--guard-corpus-dir",
        type=Path,
        metavar="D",
        help="folder in LibriSpeech's layout: int8 must hold the guard there",
    )
    parser.add_argument("--guard-part", metavar="P", help="folder of that corpus")
    parser.add_argument(
        "--guard-limit", type=int, default=0, metavar="N", help="utterances at most (default: all)"
    )


def run(args: argparse.Namespace) -> None:
    """Export, quantise, add the runtime, and check against the host's contract and the guard."""
    from todm.deploy.bundle import write_bundle
    from todm.deploy.guard import GuardError
    from todm.deploy.saturation import HINT, saturates
    from todm.errors import UserError
    from todm.model_dir import load_subnet
    from todm.runtime.layout import BundleFiles

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
        if args.pareto:
            subnets = _searched(args.exp_dir, subnets)
        jobs = [(path, args.exp_dir / "bundles" / path.name) for path in subnets]
    if args.pareto and args.model is not None:
        raise UserError("--pareto: belongs to --exp-dir EXP; leave it out")
    speech = _load_speech(args)
    failures, eight_bits = [], False
    for source, target in jobs:
        net, config = load_subnet(source)
        settings = replace(config.export, **_changes(args))
        try:
            sizes = write_bundle(net, replace(config, export=settings), source, target, guard_audio=speech)
        except GuardError as error:  # the other sizes may do
            failures.append(str(error))
            continue
        eight_bits |= settings.int8 and not settings.reduce_range
        print(f"{target}: " + ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))
        report = BundleFiles(target).int8_report
        if report.is_file():
            _print_guard(report)
    if args.exp_dir is not None:
        _describe(args.exp_dir)
    if eight_bits and saturates():
        print(f"todm: note: {HINT}", file=sys.stderr)
    if failures:
        raise UserError("; ".join(failures))


def _searched(exp: Path, subnets: list[Path]) -> list[Path]:
    """The folders of the sizes that the search chose, by whatever name they were extracted."""
    from todm.errors import UserError
    from todm.search.front import SearchResult
    from todm.space.spec import SubnetSpec

    specs = {path: SubnetSpec.load(path / "spec.json") for path in subnets}
    chosen = {point.spec for point in SearchResult.load(exp / "search" / "pareto.json").chosen}
    if missing := sorted(spec.name for spec in chosen - set(specs.values())):
        raise UserError(
            f"{exp / 'subnets'}: {', '.join(missing)} not extracted; run "
            f"'todm extract --exp-dir {exp} --pareto' first"
        )
    return [path for path, spec in specs.items() if spec in chosen]


def _describe(exp: Path) -> None:
    """The manifest of all bundles, and a card in each."""
    from todm.report.card import write_cards
    from todm.report.gather import gather
    from todm.report.manifest import write_manifest

    found = gather(exp)
    write_cards(found)
    if (path := write_manifest(found)) is not None:
        print(path)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Settings that the command line gives."""
    changes: dict[str, Any] = {
        key: value for key, value in (("chunk_ms", args.chunk_ms), ("opset", args.opset)) if value is not None
    }
    if args.exclude:
        changes["exclude"] = tuple(args.exclude)
    for flag, change in (
        (args.no_int8, {"int8": False}),
        (args.fp16, {"fp16": True}),
        (args.static, {"quantization": "static"}),
        (args.per_tensor, {"per_channel": False}),
        (args.reduce_range, {"reduce_range": True}),
    ):
        if flag:
            changes.update(change)
    return changes


def _load_speech(args: argparse.Namespace) -> LabelledAudio | None:
    from todm.errors import UserError

    if (args.guard_corpus_dir is None) != (args.guard_part is None):
        raise UserError("--guard-corpus-dir and --guard-part belong together; give both or none")
    if args.guard_part is None:
        return None
    if args.no_int8:
        raise UserError("--no-int8: there is nothing to guard then; leave it or the --guard options out")
    from todm.data.part_audio import load_part_audio
    from todm.deploy.guard import LabelledAudio

    _, texts, samples = load_part_audio(args.guard_corpus_dir, args.guard_part, limit=args.guard_limit)
    return LabelledAudio(part=args.guard_part, texts=texts, samples=samples)


def _print_guard(path: Path) -> None:
    import json

    found = json.loads(path.read_text())
    wer, excluded = found["wer"], found["excluded"]
    print(
        f"  WER {wer['fp32']:.2f}% in fp32, {wer['int8']:.2f}% in int8 on {found['utterances']} utterances "
        f"of {found['part']} (allowed: {found['allowance']:.2f} points more); "
        + (f"left in float: {', '.join(excluded)}" if excluded else "all products in integers")
    )
