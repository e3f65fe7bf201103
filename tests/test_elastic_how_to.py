"""The how-to on elastic dimensions, followed step by step in a copy of the package."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import yaml

from tests.adapter import ADAPTER
from tests.prepared import CONFIG, prepare_run
from todm.config import save_config
from todm.files import read_json
from todm.layout import ModelFolder, RunFolder
from todm.nn.block import Block
from todm.runtime.layout import BundleFiles
from todm.search.front import SearchResult
from todm.space.dimensions import BlockCounts, BlockDeclaration, Dimension

pytest.importorskip("pymoo")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "add-an-elastic-dimension.md").read_text(encoding="utf-8")


def read_example(language: str) -> str:
    """The page's only code block in a language."""
    (code,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.S | re.M)
    return textwrap.dedent(code)


def install(folder: Path) -> None:
    """Copy todm and do what the page asks for: one file, one entry in `BLOCKS`."""
    shutil.copytree(ROOT / "todm", folder / "todm", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    shutil.copy(ROOT / "tests" / "adapter.py", folder / "my_package" / "adapter.py")
    path = folder / "todm" / "space" / "dimensions.py"
    before, end, after = path.read_text(encoding="utf-8").partition('\n)\n"""All blocks')
    entry = textwrap.indent(f"{read_example('python').rstrip()},", " " * 4)
    path.write_text(f"{before}\n{entry}{end}{after}", encoding="utf-8")


def run_python(folder: Path, *words: str) -> str:
    """Run Python in a folder with the modules in it; returns the standard output."""
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_declares_the_block_of_the_example() -> None:
    code = read_example("python").replace("my_package.adapter", "tests.adapter")
    declared = eval(code, {"BlockDeclaration": BlockDeclaration, "Dimension": Dimension})
    assert declared == ADAPTER


def test_the_page_lists_all_methods_with_their_parameters() -> None:
    listed = dict(re.findall(r"^ *\| `(\w+)\((.*?)\)`", PAGE, re.M))
    methods = {
        name
        for name, value in vars(Block).items()
        if not name.startswith("_") and callable(getattr(Block, name))
    }
    assert methods == set(listed)
    for name, parameters in listed.items():
        found = inspect.signature(getattr(Block, name)).parameters.values()
        names = [one.name for one in found if one.name != "self" and one.kind is not one.KEYWORD_ONLY]
        assert names == parameters.split(", "), name
    counts = [name for name in vars(BlockCounts) if name.startswith("count_")]
    assert counts and all(f"`{name}`" in PAGE for name in counts)


SHOW_DIMENSIONS = """
import sys
from pathlib import Path
from todm.config import load_config
from todm.space.space import SearchSpace

for path in sys.argv[1:]:
    print(*SearchSpace.from_config(load_config(Path(path))).widths)
"""

SCRIPT = """
import todm

if __name__ == "__main__":
    run = todm.Run("exp", "conf.yaml")
    run.train()
    run.average()
    run.search()
    run.extract(["min", "max-streaming"])
    run.export(["max-streaming"])
"""


def test_one_file_and_one_entry_are_enough(tmp_path: Path) -> None:
    install(tmp_path)
    shipped = sorted((ROOT / "recipes" / "librispeech" / "conf").glob("*.yaml"))
    assert run_python(tmp_path, "-c", SHOW_DIMENSIONS, *map(str, shipped)).split() == ["ffn_dim"] * len(
        shipped
    )

    exp = prepare_run(tmp_path)
    widths = yaml.safe_load(read_example("yaml"))["space"]["widths"]
    config = replace(
        CONFIG,
        train=replace(CONFIG.train, num_processes=2, max_steps=3, valid_interval=-1),
        search=replace(CONFIG.search, workers=2),
    )
    save_config(config, tmp_path / "conf.yaml")
    settings = yaml.safe_load((tmp_path / "conf.yaml").read_text(encoding="utf-8"))
    settings["space"]["widths"] = widths
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    run_python(tmp_path, "script.py")

    run = RunFolder(exp)
    for name, place in (("min", 0), ("max-streaming", -1)):
        spec = read_json(ModelFolder(run.subnet(name)).spec)
        assert set(spec["widths"]["adapter_dim"]) == {widths["adapter_dim"][place]}
    points = SearchResult.load(run.pareto).points
    assert points and all("adapter_dim" in point.spec.widths for point in points)
    encoder = onnx.load(BundleFiles(run.bundle("max-streaming")).stored("encoder", "fp32"))
    assert any("adapter.in_proj" in tensor.name for tensor in encoder.graph.initializer)
