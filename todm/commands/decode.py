"""Transcribe one part of a corpus and score it. Writes R.json, and the alignments to R.errors.txt."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm.api as api
from todm.commands.transcribe import add_model_arguments, make_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm decode``."""
    parser.add_argument(
        "--model", type=Path, required=True, metavar="MODEL", help="supernet, subnet or ONNX folder"
    )
    parser.add_argument(
        "--corpus-dir", type=Path, required=True, metavar="DIR", help="folder in LibriSpeech's layout"
    )
    parser.add_argument("--part", required=True, help="part of the corpus, for example dev-clean-2")
    parser.add_argument("--out", type=Path, required=True, metavar="R.json", help="file for the result")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Decode, write the files and print one line."""
    result = api.decode_part(
        args.model, args.corpus_dir, args.part, args.out, spec=args.spec, options=make_options(args)
    )
    wer = result.score
    low, high = wer.ci95
    print(
        f"{result.model} on {result.part}: WER {wer.wer:.2f}% [{low:.2f}, {high:.2f}], {wer.errors} errors "
        f"in {wer.words} words ({wer.ins} ins, {wer.dels} del, {wer.subs} sub)"
    )
