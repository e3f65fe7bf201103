"""Make an ONNX folder self-contained: ``python transcribe.py FILE...`` runs in it without todm."""

from __future__ import annotations

import shutil
from pathlib import Path

from .layout import BundleFiles

_LAUNCHER = '''\
"""{summary}"""

import sys
from pathlib import Path

try:
    from runtime.{module} import main
except ModuleNotFoundError as error:
    fix = "run: pip install -r requirements.txt"
    print(f"the package {{error.name}} is not installed; {{fix}}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main(folder=Path(__file__).resolve().parent))
'''

_REQUIREMENTS = "numpy\nonnxruntime\nkaldi-native-fbank\nsoundfile\n"


def add_runtime(folder: str | Path) -> list[Path]:
    """Copy this package into ``folder/runtime``; write its launchers and ``requirements.txt``.

    Args:
        folder: an existing model folder; an older copy is replaced.

    Returns:
        The files written, in alphabetical order.
    """
    layout = BundleFiles(Path(folder))
    here = Path(__file__).parent
    shutil.rmtree(layout.runtime, ignore_errors=True)
    files = []
    for source in here.rglob("*.py"):
        target = layout.runtime / source.relative_to(here)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.append(Path(shutil.copyfile(source, target)))
    texts = {
        layout.transcribe_script: _LAUNCHER.format(
            module="transcribe",
            summary="Transcribe audio files with the model in this folder: python transcribe.py FILE...",
        ),
        layout.bench_script: _LAUNCHER.format(
            module="benchmark",
            summary="Measure the model in this folder on this machine: python bench.py FILE...",
        ),
        layout.requirements: _REQUIREMENTS,
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        files.append(path)
    return sorted(files)
