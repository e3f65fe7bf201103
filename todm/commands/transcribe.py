"""Transcribe audio files (wav, flac, any sample rate) with any kind of model."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm.api as api
from todm.errors import UserError
from todm.runtime.audio import read_audio
from todm.runtime.layout import PRECISIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm transcribe``."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="supernet, subnet or ONNX folder")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="audio files")
    add_model_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for opening a model; `make_options` reads them."""
    parser.add_argument(
        "--spec", metavar="SIZE", help="size of a supernet: min, mid-streaming, ..., or a spec.json"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="precision of an ONNX folder (default: fp32)"
    )
    parser.add_argument("--beam", action="store_true", help="modified beam search (ONNX folders only)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")


def make_options(args: argparse.Namespace) -> api.InferenceOptions:
    """Read the options of `add_model_arguments`."""
    _check_threads(args)
    return api.InferenceOptions(precision=args.precision, beam=args.beam, num_threads=args.threads)


def run(args: argparse.Namespace) -> None:
    """Print one line per file: path, tab, text."""
    _check_threads(args)
    utterances = [
        read_audio(path) for path in args.files
    ]  # reports unreadable files before the model is opened
    model = api.load(
        args.model,
        spec=args.spec,
        precision=args.precision,
        beam=args.beam,
        num_threads=args.threads,
    )
    for path, audio in zip(args.files, utterances, strict=True):
        print(f"{path}\t{model.transcribe(audio.samples, audio.sample_rate).text}")


def _check_threads(args: argparse.Namespace) -> None:
    if args.threads < 1:
        raise UserError(f"--threads: must be at least 1, got {args.threads}")
