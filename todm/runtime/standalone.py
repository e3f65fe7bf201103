"""Make an ONNX folder self-contained: ``python transcribe.py FILE...`` runs in it without todm."""

from __future__ import annotations

import shutil
from pathlib import Path

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

_SCRIPTS = {  # name: module of this package, summary
    "transcribe.py": (
        "transcribe",
        "Transcribe audio files with the model in this folder: python transcribe.py FILE...",
    ),
    "bench.py": ("benchmark", "Measure the model in this folder on this machine: python bench.py FILE..."),
}

_REQUIREMENTS = "numpy\nonnxruntime\nkaldi-native-fbank\nsoundfile\n"


def add_runtime(folder: str | Path) -> list[Path]:
    """Copy this package into ``folder/runtime``; write its launchers and ``requirements.txt``.

    Args:
        folder: an existing model folder; an older copy is replaced.

    Returns:
        The files written, in alphabetical order.
    """
    folder = Path(folder)
    here = Path(__file__).parent
    shutil.rmtree(folder / "runtime", ignore_errors=True)
    files = []
    for source in here.rglob("*.py"):
        target = folder / "runtime" / source.relative_to(here)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.append(Path(shutil.copyfile(source, target)))
    texts = {
        name: _LAUNCHER.format(module=module, summary=summary) for name, (module, summary) in _SCRIPTS.items()
    }
    for name, text in {**texts, "requirements.txt": _REQUIREMENTS}.items():
        (folder / name).write_text(text, encoding="utf-8")
        files.append(folder / name)
    return sorted(files)
