"""File names are written in the layout modules only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import todm
from todm.layout import BenchFolder, DataFolder, LangFolder, ModelFolder, RunFolder

ROOT = Path(todm.__file__).parent
NAMES = {
    "bench.png", "bpe.model", "bpe.vocab", "cache.jsonl", "commands.txt", "compare.json", "config.yaml",
    "fingerprints.json", "finished.json", "index.html", "ladder.json", "launch.yaml", "manifest.json",
    "metrics.jsonl", "model.safetensors", "parity.json", "pareto.json", "skipped.json", "spec.json",
    "speech.wav", "stats.json", "tokens.txt", "train.log", "*.pt", "step-*.pt", ".errors.txt",
}  # fmt: skip


def find_names(path: Path) -> Iterator[str]:
    """String literals of a module that are one of `NAMES`, or end with one as a path does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.rpartition("/")[2]
            if name in NAMES and " " not in node.value:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"


@pytest.mark.parametrize(
    "package", sorted(path.name for path in ROOT.iterdir() if path.suffix in ("", ".py"))
)
def test_file_names_are_in_the_layout_only(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py")) if (ROOT / package).is_dir() else [ROOT / package]
    assert [
        found for path in paths if "layout" not in (path.stem, path.parent.name) for found in find_names(path)
    ] == []


def test_names_of_a_run_folder() -> None:
    run = RunFolder(Path("exp"))
    assert run.checkpoint(410).as_posix() == "exp/checkpoints/step-00000410.pt"
    assert run.tuning("min").metrics.as_posix() == "exp/fine-tune/min/train/metrics.jsonl"
    assert run.alignments("min", "dev").as_posix() == "exp/decode/min/dev.errors.txt"
    assert run.wer("min", "dev").as_posix() == "exp/decode/min/dev.json"
    assert run.process_log(1).parent == run.launch_config.parent == run.train
    assert LangFolder(run.lang).tokens == DataFolder(run.data).lang / "tokens.txt"
    assert ModelFolder(run.supernet).language_files[0].as_posix() == "exp/supernet/tokens.txt"


def test_subnets_are_found_by_their_spec(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.find_subnets() == []
    for name in ("min", "max", "unfinished"):
        run.subnet(name).mkdir(parents=True)
        if name != "unfinished":
            ModelFolder(run.subnet(name)).spec.write_text("{}")
    assert run.find_subnets() == [run.subnet("max"), run.subnet("min")]


def test_results_are_found_in_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    files = [run.checkpoint(9), run.checkpoint(10), run.checkpoints / "other.pt", run.device("pi4")]
    files += [run.stage_mark(name) for name in ("10", "9", "8-min")] + [run.fingerprints, run.done / "4"]
    files += [run.wer("min", "dev"), run.alignments("min", "dev"), BenchFolder(run.bench).result("min")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    run.bundle("max").mkdir(parents=True)
    run.manifest.write_text("")
    assert run.find_checkpoints() == [run.checkpoint(10), run.checkpoint(9)]
    assert [path.name for path in run.find_stage_marks()] == ["4", "8-min.json", "9.json", "10.json"]
    assert run.find_wers() == [run.wer("min", "dev")]
    assert BenchFolder(run.bench).find_results() == [BenchFolder(run.bench).result("min")]
    assert run.find_bundles() == [run.bundle("max")]
    assert run.find_devices() == [run.device("pi4")]
