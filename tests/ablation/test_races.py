"""Times until all sizes are good enough: found in validations, compared seed by seed, told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from todm.ablation.grid import load_grid
from todm.ablation.report import format_race, write_report
from todm.ablation.results import Finish, Results
from todm.ablation.runs import run_folder
from todm.ablation.scores import read_validations


def validation(seconds: float, **wer: float) -> dict[str, Any]:
    return {"step": 1, "seconds": seconds, "wer": wer}


VALIDATIONS = {
    ("alone", 1): [validation(10.0, max=5.0), validation(20.0, max=2.9), validation(30.0, max=3.5)],
    ("alone", 2): [validation(15.0, max=4.0), validation(40.0, max=3.0)],
    # The largest net by itself is no arrival.
    ("all", 1): [validation(15.0, min=6.0, max=2.0), validation(25.0, min=3.0, max=2.0)],
    ("all", 2): [validation(50.0, min=9.0, max=3.1)],
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    (tmp_path / "base.yaml").write_text("train: {num_epochs: 2}\n")
    content = {
        "base": "base.yaml",
        "seeds": [1, 2],
        "variants": {
            "alone": {"settings": {"space.depths": [6], "space.widths": {"ffn_dim": [576]}}},
            "all": {},
            "late": {"settings": {"train.num_epochs": 3}},
        },
        "races": [{"title": "To 3%", "reference": "alone", "variants": ["all", "late"], "wer": 3.0}],
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    grid, exp = load_grid(tmp_path / "grid.yaml"), tmp_path / "exp"
    for run in grid.plan():
        if (run.variant, run.seed) in VALIDATIONS:
            folder = run_folder(exp, run)
            folder.mkdir(parents=True)
            found = {"validations": VALIDATIONS[run.variant, run.seed], "sizes": {}}
            (folder / "result.json").write_text(json.dumps(found))
    return Results(grid, exp)


def test_the_first_validation_with_all_sizes_counts(results: Results) -> None:
    assert results.race(results.grid.races[0]) == [
        Finish(variant="alone", seconds={1: 20.0, 2: 40.0}, ratios={1: 1.0, 2: 1.0}),
        Finish(variant="all", seconds={1: 25.0, 2: None}, ratios={1: 1.25, 2: math.inf}),
    ]


def test_the_report_tells_who_never_arrived(results: Results, tmp_path: Path) -> None:
    text = write_report(results, tmp_path).read_text()
    assert "## To 3%" in text and "Not finished: late (seed 1), late (seed 2)" in text
    assert format_race(results.race(results.grid.races[0])).splitlines()[2:] == [
        "| alone | 0.3, 0.7 | 1.00, 1.00 | 1.00 |",
        "| all | 0.4, never | 1.25, never | never |",
    ]
    assert json.loads((tmp_path / "report" / "results.json").read_text())[0]["rows"][1]["variant"] == "all"


def test_validations_know_the_training_time_before_them(tmp_path: Path) -> None:
    lines = [
        {"kind": "train", "step": 2, "seconds": 1.0},
        {"kind": "dev_loss", "step": 2, "loss": 0.5},
        {"kind": "valid", "step": 2, "wer": {"max": 9.0}},
        {"kind": "train", "step": 4, "seconds": 1.5},
        {"kind": "rollback", "step": 4, "to": 2},
        {"kind": "train", "step": 4, "seconds": 2.0},
        {"kind": "valid", "step": 4, "wer": {"max": 4.0}},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_validations(path) == [
        {"step": 2, "seconds": 1.0, "wer": {"max": 9.0}},
        {"step": 4, "seconds": 4.5, "wer": {"max": 4.0}},
    ]
