"""Transcribe a file with hotwords in sherpa-onnx: python hotwords.py BUNDLE FILE WORDS...

WORDS are phrases in the spelling of the training texts, each with an optional weight above 0, as in
"NEW YORK :3.0".
"""

import json
import sys
from pathlib import Path

import numpy as np
import sherpa_onnx
import soundfile

SCORE = 2.0  # bonus per matched piece of a phrase without a weight, in nats


def main(bundle: Path, path: Path, phrases: list[str]) -> None:
    """Print the text of one audio file."""
    settings = {
        "encoder": str(bundle / "encoder.onnx"),
        "decoder": str(bundle / "decoder.onnx"),
        "joiner": str(bundle / "joiner.onnx"),
        "tokens": str(bundle / "tokens.txt"),
        "decoding_method": "modified_beam_search",  # greedy search ignores hotwords
        "modeling_unit": "bpe",
        "bpe_vocab": str(bundle / "bpe.vocab"),  # splits the phrases into the model's pieces
        "hotwords_score": SCORE,
    }
    samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    audio = samples.mean(axis=1)
    if not np.all(np.abs(audio) <= 1e4):  # also NaN; sherpa-onnx would take them, and a stream never recovers
        sys.exit(f"{path}: its samples are not finite or far above full scale; write the file again")
    hotwords = "/".join(phrases)  # for a file with one phrase per line use hotwords_file
    if json.loads((bundle / "spec.json").read_text())["mode"] == "offline":
        offline = sherpa_onnx.OfflineRecognizer.from_transducer(**settings)
        stream = offline.create_stream(hotwords=hotwords)
        stream.accept_waveform(sample_rate, audio)
        offline.decode_stream(stream)
        print(stream.result.text.strip())
        return
    online = sherpa_onnx.OnlineRecognizer.from_transducer(**settings, model_type="lstm")
    stream = online.create_stream(hotwords=hotwords)
    stream.accept_waveform(sample_rate, audio)
    # Trailing silence, needed to decode the last words.
    stream.accept_waveform(sample_rate, np.zeros(int(1.5 * sample_rate), dtype=np.float32))
    stream.input_finished()
    while online.is_ready(stream):
        online.decode_stream(stream)
    print(online.get_result(stream).strip())


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
