"""Transcribe one part of a corpus and score it: R.json, and the alignments in R.errors.txt beside it."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "word error rate of a model on a part of a corpus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model M --corpus-dir D --part P --out R.json``."""
    parser.add_argument("--model", type=Path, required=True, help="supernet, subnet or ONNX folder")
    parser.add_argument("--spec", help="size of a supernet: min, mid-streaming, ..., or a spec.json")
    parser.add_argument("--corpus-dir", type=Path, required=True, help="folder in LibriSpeech's layout")
    parser.add_argument("--part", required=True, help="folder of the corpus, for example dev-clean-2")
    parser.add_argument("--out", type=Path, required=True, metavar="R.json", help="where the result goes")
    parser.add_argument(
        "--precision", choices=("fp32", "int8", "fp16"), help="of an ONNX folder (default fp32)"
    )
    parser.add_argument("--beam", action="store_true", help="modified beam search (ONNX folders)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")


def run(args: argparse.Namespace) -> None:
    """Decode, print one line, write the files."""
    from todm.data.part_audio import load_part_audio
    from todm.decode.wer import compute_wer, make_utterances, write_wer
    from todm.recognizer import open_model

    recognizer = open_model(
        args.model, spec=args.spec, precision=args.precision, beam=args.beam, num_threads=args.threads
    )
    ids, texts, samples = load_part_audio(args.corpus_dir, args.part)
    scored = make_utterances(ids, texts, recognizer.transcribe(samples))
    result = compute_wer(scored)
    model = args.model.name if args.spec is None else f"{args.model.name}:{args.spec}"
    write_wer(args.out, scored, result, part=args.part, model=model)
    low, high = result.ci95
    print(
        f"{model} on {args.part}: WER {result.wer:.2f}% [{low:.2f}, {high:.2f}], {result.errors} errors "
        f"in {result.words} words ({result.ins} ins, {result.dels} del, {result.subs} sub)"
    )
