"""Stream hours of audio through one state and check memory, state and text.

    python export/tools/soak.py BUNDLE --corpus-dir DIR --part PART [--hours 1] [--pause 1.5] [--endpoints]

The utterances of the part are repeated with digital silence between them, in one stream of todm's runtime.
From the middle of one pause to the middle of the next the text is compared with that of a new stream, and
the word error rates of both are computed. The long stream keeps its state and its last labels. With
``--endpoints`` it is segmented as in sherpa-onnx (``reset_encoder=True``): a segment ends after 1.2 s
without a token, and the state is reset after another 2.4 s (use a pause of 4 s). ``--silence`` streams only
silence, which must not give any word; ``--noise`` white and pink noise, hum, clicks and silence at several
levels in turn, which may give one word. Exit code 1 if a state is not finite, memory grows, silence or noise
gives more words, or the stream makes more than 1.1 times the errors of fresh starts plus one in 500 words.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import cycle
from pathlib import Path

import numpy as np

from todm.data.part_audio import load_part_audio
from todm.decode.wer import compute_wer, make_utterances
from todm.deploy.in_use import compute_allowed_errors, make_wordless_sounds
from todm.errors import UserError
from todm.runtime.bundle import open_bundle
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import DEFAULT_FBANK
from todm.runtime.machine import rss_mb
from todm.runtime.streaming import Stream, StreamingRecognizer

ALLOWED_GROWTH_MB = 8.0
"""Allowed growth of memory between the first and the last tenth of the time."""


def main() -> int:
    """Print a line per tenth of the time and the result; returns 0 if all checks pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path, help="streaming ONNX folder")
    parser.add_argument("--corpus-dir", type=Path, help="folder in LibriSpeech's layout")
    parser.add_argument("--part", help="part of the corpus")
    parser.add_argument("--silence", action="store_true", help="stream silence instead of a corpus")
    parser.add_argument(
        "--noise", action="store_true", help="stream sounds without words instead of a corpus"
    )
    parser.add_argument("--hours", type=float, default=1.0, help="hours of audio (1)")
    parser.add_argument(
        "--pause", type=float, default=1.5, help="seconds of silence between utterances (1.5)"
    )
    parser.add_argument("--endpoints", action="store_true", help="segment the stream at endpoints")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "int8"])
    args = parser.parse_args()
    if args.silence + args.noise + bool(args.corpus_dir and args.part) != 1:
        raise UserError("give --corpus-dir and --part, or --silence, or --noise")
    if rss_mb() is None:
        raise UserError("/proc/self/status: cannot be read; soak.py needs Linux")
    bundle = open_bundle(args.bundle, precision=args.precision)
    recognizer = StreamingRecognizer(bundle, reset_encoder=args.endpoints)
    if args.silence:
        utterances = [np.zeros(20 * SAMPLE_RATE, dtype=np.float32)]
    elif args.noise:
        kinds = make_wordless_sounds(10 * SAMPLE_RATE).values()
        utterances = [sound for sounds in kinds for sound in sounds]
    else:
        ids, texts, utterances = load_part_audio(args.corpus_dir, args.part)
    half_pause = np.zeros(round(args.pause * SAMPLE_RATE / 2), dtype=np.float32)
    pieces = [np.concatenate((half_pause, samples, half_pause)) for samples in utterances]
    # Whole chunks, because a shift of the chunks by milliseconds changes some texts, too.
    assert recognizer.bundle.streaming is not None
    chunk = recognizer.bundle.streaming.shift * DEFAULT_FBANK.frame_shift
    pieces = [np.pad(piece, (0, -len(piece) % chunk)) for piece in pieces]
    fresh = [decode(recognizer, recognizer.create_stream(), piece) for piece in pieces]

    stream = recognizer.create_stream()
    wanted = args.hours * 3600
    seconds, began, tenth = 0.0, time.perf_counter(), 0
    memory: list[float] = []
    num_segments = num_different = 0
    texts_of_stream: list[str] = []
    largest = 0.0
    for piece, expected in cycle(zip(pieces, fresh, strict=True)):
        text = decode(recognizer, stream, piece, endpoints=args.endpoints)
        if not args.endpoints:
            recognizer.reset(stream)
        seconds += len(piece) / SAMPLE_RATE
        num_segments += 1
        num_different += text != expected
        texts_of_stream.append(text)
        largest = max(largest, *(float(np.abs(state).max()) for state in stream.states))
        if seconds >= wanted * (tenth + 1) / 10:
            tenth += 1
            memory.append(rss_mb() or 0.0)
            print(
                f"{seconds / 60:6.1f} min  {memory[-1]:7.1f} MB  largest state {largest:.3g}  "
                f"{num_different} of {num_segments} texts differ from those of a new stream"
            )
        if seconds >= wanted:
            break
    growth = memory[-1] - memory[0]
    result = {
        "bundle": args.bundle.resolve().name,
        "precision": args.precision,
        "hours": seconds / 3600,
        "real_time_factor": (time.perf_counter() - began) / seconds,
        "state_bytes": sum(state.nbytes for state in stream.states),
        "largest_state": largest,
        "memory_growth_mb": growth,
        "segments": num_segments,
        "different": num_different,
        "words": sum(len(text.split()) for text in texts_of_stream),
    }
    accurate = result["words"] <= int(args.noise)
    if not args.silence and not args.noise:
        rounds = range(num_segments)
        references = [texts[i % len(texts)] for i in rounds]
        names = [ids[i % len(ids)] for i in rounds]
        starts = [fresh[i % len(fresh)] for i in rounds]
        long, short = (
            compute_wer(make_utterances(names, references, hypotheses), replications=1)
            for hypotheses in (texts_of_stream, starts)
        )
        accurate = long.errors <= compute_allowed_errors(short.errors, short.words)
        result |= {"wer": long.wer, "wer_fresh": short.wer, "wer_ok": accurate}
    print(json.dumps(result))
    return 0 if np.isfinite(largest) and growth <= ALLOWED_GROWTH_MB and accurate else 1


def decode(
    recognizer: StreamingRecognizer, stream: Stream, samples: np.ndarray, *, endpoints: bool = False
) -> str:
    """Decode more samples (S,), 100 ms at a time; returns the text of all their segments."""
    texts = []
    for begin in range(0, len(samples), SAMPLE_RATE // 10):
        stream.accept_waveform(SAMPLE_RATE, samples[begin : begin + SAMPLE_RATE // 10])
        while recognizer.is_ready(stream):
            recognizer.decode_streams([stream])
            if endpoints and recognizer.is_endpoint(stream):
                texts.append(recognizer.get_result(stream).text)
                recognizer.reset(stream)
    return " ".join(filter(None, [*texts, recognizer.get_result(stream).text]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"soak.py: {error}", file=sys.stderr)
        sys.exit(2)
