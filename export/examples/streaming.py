"""Stream a file through a streaming bundle in sherpa-onnx: python streaming.py STREAMING_BUNDLE FILE"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import sherpa_onnx
import soundfile

PIECE_SECONDS = 0.1  # duration of audio per call, as from a microphone


def main(bundle: Path, path: Path) -> None:
    """Print partial results while the audio arrives, then the text."""
    if json.loads((bundle / "spec.json").read_text())["mode"] != "streaming":
        sys.exit(f"{bundle}: is an offline model; use offline.py")
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        encoder=str(bundle / "encoder.onnx"),
        decoder=str(bundle / "decoder.onnx"),
        joiner=str(bundle / "joiner.onnx"),
        tokens=str(bundle / "tokens.txt"),
        model_type="lstm",
    )
    samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    # Trailing silence, needed to decode the last words: the bundle states it in frames of 10 ms.
    metadata = onnxruntime.InferenceSession(bundle / "encoder.onnx").get_modelmeta().custom_metadata_map
    num_frames = int(metadata.get("tail_frames", 80))
    num_frames += sample_rate != 16000  # the resampler never returns the last samples
    tail = np.zeros(num_frames * sample_rate // 100, dtype=np.float32)
    audio = np.concatenate((samples.mean(axis=1), tail))
    if not np.all(np.abs(audio) <= 1e4):  # also NaN; sherpa-onnx would take them, and a stream never recovers
        sys.exit(f"{path}: its samples are not finite or far above full scale; write the file again")
    stream = recognizer.create_stream()
    shown = ""
    piece = int(PIECE_SECONDS * sample_rate)
    for start in range(0, len(audio), piece):
        stream.accept_waveform(sample_rate, audio[start : start + piece])
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        text = recognizer.get_result(stream)
        if text != shown:
            print(f"\r{text}", end="", flush=True)
            shown = text
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    print(f"\r{recognizer.get_result(stream).strip()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
