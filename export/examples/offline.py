"""Transcribe a file with an offline bundle in sherpa-onnx: python offline.py BUNDLE FILE"""

import json
import sys
from pathlib import Path

import numpy as np
import sherpa_onnx
import soundfile


def main(bundle: Path, path: Path) -> None:
    """Print the text of one audio file."""
    if json.loads((bundle / "spec.json").read_text())["mode"] != "offline":
        sys.exit(f"{bundle}: is a streaming model; use streaming.py")
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
        encoder=str(bundle / "encoder.onnx"),
        decoder=str(bundle / "decoder.onnx"),
        joiner=str(bundle / "joiner.onnx"),
        tokens=str(bundle / "tokens.txt"),
    )
    samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    audio = samples.mean(axis=1)
    if not np.all(np.abs(audio) <= 1e4):  # also NaN
        sys.exit(f"{path}: its samples are not finite or far above full scale; write the file again")
    stream = recognizer.create_stream()
    stream.accept_waveform(sample_rate, audio)
    recognizer.decode_stream(stream)
    print(stream.result.text.strip())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
