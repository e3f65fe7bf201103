"""A small grid from the corpus to the report: cached, resumed, measured, compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.prepared import CONFIG, prepare_run
from todm.ablation.grid import Grid, load_grid
from todm.ablation.report import write_report
from todm.ablation.results import Results
from todm.ablation.runs import is_done, prepare_data, run_folder, run_grid
from todm.cli import main
from todm.config import save_config
from todm.errors import UserError
from todm.space.cost import count_params

VARIANTS = {
    "base": {},
    "sparse": {
        "settings": {
            "train.dropout.policy": "reweighted",
            "train.dropout.reweighted.penalty": "l1",
            "train.dropout.reweighted.strength": 0.05,
            "train.dropout.reweighted.units": True,
            "train.dropout.reweighted.tolerance": 0.7,
        }
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, Path, list[str]]:
    folder = tmp_path_factory.mktemp("grid")
    save_config(CONFIG, folder / "base.yaml")
    grid_path = folder / "grid.yaml"
    grid_path.write_text(
        yaml.safe_dump(
            {
                "base": "base.yaml",
                "settings": {"train.num_epochs": 1, "train.max_steps": 3, "train.num_threads": 1},
                "seeds": [1, 2],
                "variants": VARIANTS,
                "tables": [{"title": "All of it", "reference": "base", "variants": ["sparse"]}],
                "curves": [{"title": "Zeros", "variants": ["base", "sparse"], "sizes": ["max"]}],
            },
            sort_keys=False,
        )
    )
    prepare_run(folder)
    grid, exp = load_grid(grid_path), folder / "grid"
    messages: list[str] = []
    with pytest.raises(UserError, match="--corpus-dir"):
        prepare_data(grid, exp, None)
    prepare_data(grid, exp, folder / "corpus" / "LibriSpeech")
    assert run_grid(grid.plan(["base"])[:1], exp, num_jobs=1, on_message=messages.append) == []
    assert run_grid(grid.plan(), exp, num_jobs=2, on_message=messages.append) == []
    return grid, exp, messages


def test_every_run_is_made_once(finished: tuple[Grid, Path, list[str]]) -> None:
    grid, exp, messages = finished
    assert messages[0].startswith("1 runs, 1 of them") and messages[2].startswith("4 runs, 3 of them")
    assert all(is_done(exp, run) for run in grid.plan())
    again: list[str] = []
    assert run_grid(grid.plan(), exp, num_jobs=2, on_message=again.append) == []
    assert again == ["4 runs, 0 of them to do, 2 at a time"]
    assert not list(exp.glob("runs/*/checkpoints"))


def test_results_tell_errors_and_costs(finished: tuple[Grid, Path, list[str]]) -> None:
    grid, exp, _ = finished
    for run in grid.plan():
        result = json.loads((run_folder(exp, run) / "result.json").read_text())
        assert result["cost"]["steps"] == 3 and result["cost"]["seconds"] > 0
        for size in result["sizes"].values():
            errors = sum(one for one, _ in size["utterances"].values())
            words = sum(words for _, words in size["utterances"].values())
            assert size["wer"] == pytest.approx(100 * errors / words)
            assert 0 < size["ffn_nonzero"] <= size["ffn_weights"]


def test_vanished_units_show_in_parameters(finished: tuple[Grid, Path, list[str]]) -> None:
    grid, exp, _ = finished
    results = Results(grid, exp)
    dense, sparse = results.row("base", "max"), results.row("sparse", "max", "base")
    assert dense is not None and sparse is not None
    assert dense.nonzero == 1.0 and 0.0 < sparse.nonzero < 1.0
    assert sparse.params < dense.params
    run = grid.plan(["base"])[0]
    sizes = json.loads((run_folder(exp, run) / "result.json").read_text())["sizes"]
    vocab_size = sum(1 for _ in (exp / "data" / "lang" / "tokens.txt").open())
    from todm.space.space import SearchSpace

    space = SearchSpace.from_config(run.config)
    assert sizes["max"]["params"] == count_params(run.config.model, space.max(), vocab_size)


def test_the_report_has_tables_and_plots(finished: tuple[Grid, Path, list[str]], tmp_path: Path) -> None:
    grid, exp, _ = finished
    page = write_report(Results(grid, exp), tmp_path)
    text = page.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert sum("base" in line for line in lines) == sum("sparse" in line for line in lines) == 3
    for name in ("table-1.png", "curve-1.png"):
        assert f"]({name})" in text and (page.parent / name).stat().st_size > 5000
    data = json.loads((page.parent / "results.json").read_text())
    assert [entry["title"] for entry in data] == ["All of it", "Zeros"]
    first, second = data[0]["rows"][:2]
    assert first["versus"] is None
    assert second["versus"]["mean"] == pytest.approx(second["wer"]["mean"] - first["wer"]["mean"])
    assert "Not finished" not in text


def test_what_is_missing_is_said(finished: tuple[Grid, Path, list[str]], tmp_path: Path) -> None:
    grid, _, _ = finished
    text = write_report(Results(grid, tmp_path / "empty"), tmp_path).read_text()
    assert "Not finished: base (seed 1)" in text


def test_other_data_needs_another_folder(finished: tuple[Grid, Path, list[str]], tmp_path: Path) -> None:
    grid, exp, _ = finished
    content = yaml.safe_load(grid.path.read_text())
    content["settings"]["data.vocab_size"] = 20
    other = grid.path.with_name("other.yaml")
    other.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="other settings of data"):
        prepare_data(load_grid(other), exp, None)


def test_a_failed_run_is_told_and_the_others_go_on(
    finished: tuple[Grid, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    grid, exp, _ = finished
    run = grid.plan(["sparse"])[1]
    result = run_folder(exp, run) / "result.json"
    content = result.read_text()
    result.unlink()
    # No checkpoints any more: it trains anew, into a folder that cannot be.
    (run_folder(exp, run) / "checkpoints").write_text("in the way")
    words = ["ablate", "--grid", str(grid.path), "--exp-dir", str(exp)]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "sparse (seed 2) failed" in shown.err and "report.md" in shown.out
    assert "checkpoints" in (run_folder(exp, run) / "log.txt").read_text()
    result.write_text(content)
    assert main([*words, "--list"]) == 0
    assert capsys.readouterr().out.count("done") == 4


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_stopped_grid_goes_on_where_it_was(finished: tuple[Grid, Path, list[str]], tmp_path: Path) -> None:
    grid, exp, _ = finished
    content = yaml.safe_load(grid.path.read_text())
    content["settings"].update({"train.num_epochs": 50, "train.max_steps": 200})
    content.update(seeds=[9], variants={"base": {}}, tables=[], curves=[])
    path = grid.path.with_name("long.yaml")
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "todm", "ablate", "--grid", str(path), "--exp-dir", str(exp)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    folder = run_folder(exp, load_grid(path).plan()[0])
    metrics = folder / "train" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.is_file() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 143 and "to continue" in out
    saved = list((folder / "checkpoints").glob("step-*.pt"))
    assert saved and not (folder / "result.json").exists()
