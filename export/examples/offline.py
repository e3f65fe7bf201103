"""Transcribe a file with an offline bundle in sherpa-onnx: python offline.py BUNDLE FILE"""

import sys
from pathlib import Path

import sherpa_onnx
import soundfile


def main(bundle: Path, path: Path) -> None:
    """Print the text of one audio file."""
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
        encoder=str(bundle / "encoder.onnx"),
        decoder=str(bundle / "decoder.onnx"),
        joiner=str(bundle / "joiner.onnx"),
        tokens=str(bundle / "tokens.txt"),
    )
    samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    stream = recognizer.create_stream()
    stream.accept_waveform(sample_rate, samples.mean(axis=1))
    recognizer.decode_stream(stream)
    print(stream.result.text.strip())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
