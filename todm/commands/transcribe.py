"""Transcribe audio files (wav, flac, any sample rate) with any kind of model."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "transcribe audio files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``MODEL FILE...``."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="supernet, subnet or ONNX folder")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="audio files")
    parser.add_argument("--spec", help="size of a supernet: min, mid-streaming, ..., or a spec.json")
    parser.add_argument(
        "--precision", choices=("fp32", "int8", "fp16"), help="of an ONNX folder (default fp32)"
    )
    parser.add_argument("--beam", action="store_true", help="modified beam search (ONNX folders)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")


def run(args: argparse.Namespace) -> None:
    """Print one line per file: path, tab, text."""
    from todm.model_dir import model_kind
    from todm.runtime.audio import read_audio

    utterances = [read_audio(path).samples for path in args.files]
    if args.model.exists() and model_kind(args.model) == "bundle" and args.spec is None:
        # Straight to the runtime, so that an ONNX folder runs where no torch is installed.
        from todm.runtime.recognizer import open_recognizer

        recognizer = open_recognizer(
            args.model,
            precision=args.precision or "fp32",
            method="beam" if args.beam else "greedy",
            num_threads=args.threads,
        )
        texts = [result.text for result in recognizer.transcribe(utterances)]
    else:
        from todm.recognizer import open_model

        model = open_model(
            args.model, spec=args.spec, precision=args.precision, beam=args.beam, num_threads=args.threads
        )
        texts = model.transcribe(utterances)
    for path, text in zip(args.files, texts, strict=True):
        print(f"{path}\t{text}")
