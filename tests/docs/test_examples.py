"""The page on the Python API and the notebook run as they are, on a small corpus."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.prepared import CONFIG, speak, write_corpus
from todm.config import save_config

for needed in ("onnx", "onnxruntime", "kaldi_native_fbank", "pymoo"):
    pytest.importorskip(needed)

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """A current folder with ``corpus``, ``conf.yaml`` and ``recording.wav``."""
    write_corpus(tmp_path / "corpus")
    save_config(CONFIG, tmp_path / "conf.yaml")
    soundfile.write(tmp_path / "recording.wav", speak(np.array([0, 2]), np.random.default_rng(0)), 16000)
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def run_blocks(blocks: list[str], source: Path) -> None:
    assert len(blocks) >= 5
    namespace: dict[str, object] = {"__name__": source.stem}
    for index, code in enumerate(blocks):
        exec(compile(code, f"{source}, block {index + 1}", "exec"), namespace)


def test_the_page_on_the_python_api_runs(workplace: Path) -> None:
    page = DOCS / "python-api.md"
    run_blocks(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M), page)
    assert (workplace / "exp" / "report" / "index.html").is_file()


def test_the_notebook_runs(workplace: Path) -> None:
    path = DOCS / "notebooks" / "quickstart.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code") and isinstance(cell["source"], list)
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    run_blocks(["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"], path)
