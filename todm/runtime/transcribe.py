"""Command line that transcribes audio files with a model folder, also without the rest of todm."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .audio import Audio, read_audio
from .errors import BundleError
from .layout import PRECISIONS
from .recognizer import open_recognizer
from .streaming import StreamingRecognizer
from .transcript import Transcript


def main(argv: Sequence[str] | None = None, *, folder: str | Path | None = None) -> int:
    """Print ``file<TAB>text`` for every file, or with ``--segments`` a line for every utterance.

    Args:
        argv: arguments; ``sys.argv[1:]`` when None.
        folder: the model folder when ``--bundle`` is not given; the current folder when None.

    Returns:
        Exit code: 0, or 2 when the folder or any file could not be used (one sentence on stderr;
        the other files are still transcribed).
    """
    args = _parser(Path.cwd() if folder is None else folder).parse_args(argv)
    try:
        recognizer = open_recognizer(
            args.bundle,
            precision=args.precision,
            method="beam" if args.beam else "greedy",
            max_active_paths=args.beam or 1,
            num_threads=args.threads,
            reset_encoder=args.segments,
        )
        for flag in ("segments", "streaming"):
            if getattr(args, flag) and not isinstance(recognizer, StreamingRecognizer):
                raise BundleError(
                    f"{args.bundle}: is an offline model; give a streaming one or drop --{flag}"
                )
    except BundleError as error:
        print(error, file=sys.stderr)
        return 2
    code = 0
    for name in args.files:
        try:
            audio = read_audio(name)
        except BundleError as error:
            print(error, file=sys.stderr)
            code = 2
            continue
        for note in audio.notes:
            print(f"{name}: {note}", file=sys.stderr)
        if not isinstance(recognizer, StreamingRecognizer):
            print(f"{name}\t{recognizer.transcribe([audio.samples])[0].text}", flush=True)
            continue
        for segment in _stream(recognizer, audio, args.chunk_ms, cut=args.segments, show=args.streaming):
            start = f"{segment.timestamps[0]:.2f}\t" if args.segments else ""
            print(f"{name}\t{start}{segment.text}", flush=True)
    return code


def _stream(
    recognizer: StreamingRecognizer, audio: Audio, chunk_ms: int, *, cut: bool, show: bool
) -> Iterator[Transcript]:
    """Transcribe a file as a stream.

    Args:
        recognizer: an opened streaming bundle.
        audio: the file.
        chunk_ms: milliseconds of audio per call.
        cut: yield each segment with tokens at its endpoint; False yields one transcript of all audio.
        show: print every change of the text to stderr.
    """
    stream = recognizer.create_stream()
    size = max(1, audio.sample_rate * chunk_ms // 1000)
    shown = ""
    for begin in range(0, len(audio.samples) + size, size):
        piece = audio.samples[begin : begin + size]
        if len(piece):
            stream.accept_waveform(audio.sample_rate, piece)
        else:
            stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_streams([stream])
            result = recognizer.get_result(stream)
            if show and result.text != shown:
                print(f"{(begin + len(piece)) / audio.sample_rate:8.2f} s  {result.text}", file=sys.stderr)
            shown = result.text
            if cut and recognizer.is_endpoint(stream):
                if result.tokens:
                    yield result
                recognizer.reset(stream)
                shown = ""
    result = recognizer.get_result(stream)
    if result.tokens or not cut:
        yield result


def _parser(folder: str | Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="transcribe.py", description="Transcribe audio files of any sample rate with an ONNX folder."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="wav, or any format that soundfile reads")
    parser.add_argument("--bundle", default=folder, metavar="DIR", help="the model folder (%(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument(
        "--beam", type=_positive, nargs="?", const=4, default=0, metavar="PATHS",
        help="modified beam search with this number of paths (4) instead of greedy search",
    )  # fmt: skip
    parser.add_argument("--threads", type=_positive, default=1, help="threads of onnxruntime (1)")
    parser.add_argument("--streaming", action="store_true", help="print partial results to stderr")
    parser.add_argument(
        "--segments", action="store_true",
        help="streaming models: split at pauses and print a line per utterance, FILE<TAB>SECONDS<TAB>TEXT, "
        "with the time of its first token",
    )  # fmt: skip
    parser.add_argument(
        "--chunk-ms",
        type=_positive,
        default=100,
        help="milliseconds of audio per call of a streaming model (100)",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
