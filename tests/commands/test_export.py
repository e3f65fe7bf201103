"""``todm extract`` and ``todm export`` of the sizes that a search chose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from tests.nets import MODEL, SPACE, make_supernet, write_lang
from todm.cli import main
from todm.config import Config, SpaceConfig, save_config
from todm.model_dir import save_supernet
from todm.search.front import Point, SearchResult

CHOSEN = SPACE.uniform(2, {"ffn_dim": 24}, "streaming")


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    config = Config(
        model=MODEL, space=SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
    )
    folder = tmp_path / "exp"
    save_config(config, folder / "config.yaml")
    weights = make_supernet().state_dict()
    save_supernet(folder / "supernet", weights, config, write_lang(tmp_path / "lang"))
    points = (
        Point(spec=SPACE.min(), figures={"wer": 2.0, "params": 100.0}, chosen=("knee",)),
        Point(spec=CHOSEN, figures={"wer": 1.0, "params": 200.0}, chosen=("watch", "phone")),
        Point(spec=SPACE.max(), figures={"wer": 0.5, "params": 300.0}),
    )
    found = SearchResult(objectives=("wer", "params"), precision="fp32", points=points)
    found.save(folder / "search" / "pareto.json")
    return folder


def test_every_chosen_size_becomes_a_bundle(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "--exp-dir", str(exp), "--ladder", "--pareto"]) == 0
    names = {path.name for path in (exp / "subnets").iterdir()}
    assert names == {*SPACE.ladder(), CHOSEN.name}, "min has its name already; max alone was not chosen"
    assert main(["export", "--exp-dir", str(exp), "--pareto", "--export.int8", "false"]) == 0
    assert "manifest.json" in capsys.readouterr().out
    manifest = json.loads((exp / "bundles" / "manifest.json").read_text())
    chosen_for = {entry["name"]: entry["chosen_for"] for entry in manifest["sizes"]}
    assert chosen_for == {"min": ["knee"], CHOSEN.name: ["watch", "phone"]}
    for entry in manifest["sizes"]:
        assert (exp / "bundles" / entry["folder"] / "README.md").is_file()
        assert (exp / "bundles" / entry["subnet"] / "model.safetensors").is_file()
    assert "| chosen for | watch, phone |" in (exp / "bundles" / CHOSEN.name / "README.md").read_text()


def test_what_is_missing_is_said(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "--exp-dir", str(exp), "--ladder"]) == 0
    assert main(["export", "--exp-dir", str(exp), "--pareto"]) == 2
    assert f"{CHOSEN.name} not extracted; run 'todm extract" in capsys.readouterr().err
    words = ["export", "--model", str(exp / "subnets" / "min"), "--out", str(exp / "x"), "--pareto"]
    assert main(words) == 2
    assert "--pareto: needs --exp-dir EXP" in capsys.readouterr().err
    (exp / "search" / "pareto.json").unlink()
    assert main(["export", "--exp-dir", str(exp), "--pareto"]) == 2
    assert "todm search" in capsys.readouterr().err
