"""Makes an ONNX folder self-contained: `python transcribe.py FILE...` runs there without the project."""

from __future__ import annotations

import shutil
from pathlib import Path

_LAUNCHER = '''\
"""Transcribe audio files with the model in this folder: python transcribe.py FILE..."""

import sys
from pathlib import Path

from runtime.transcribe import main

if __name__ == "__main__":
    sys.exit(main(folder=Path(__file__).resolve().parent))
'''

_REQUIREMENTS = "numpy\nonnxruntime\nkaldi-native-fbank\nsoundfile\n"


def add_runtime(folder: str | Path) -> list[Path]:
    """Copy this package into ``folder/runtime`` and write ``transcribe.py`` and ``requirements.txt``.

    Args:
        folder: an existing model folder; an older copy in it is replaced.

    Returns:
        The files written, in alphabetical order.
    """
    folder = Path(folder)
    target = folder / "runtime"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    files = []
    for source in Path(__file__).parent.glob("*.py"):
        files.append(Path(shutil.copyfile(source, target / source.name)))
    for name, text in (("transcribe.py", _LAUNCHER), ("requirements.txt", _REQUIREMENTS)):
        (folder / name).write_text(text, encoding="utf-8")
        files.append(folder / name)
    return sorted(files)
