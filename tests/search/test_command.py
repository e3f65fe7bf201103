"""``todm search`` on a small run folder: real audio files, real features, an untrained supernet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from todm.cli import main
from todm.config import Config, DataConfig, ModelConfig, SearchConfig, SpaceConfig
from todm.config_io import save_config
from todm.data.prepare import prepare
from todm.model_dir import save_supernet
from todm.nn.supernet import Supernet
from todm.search.evaluate import SupernetEvaluator
from todm.search.front import load_points
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

pytest.importorskip("pymoo")

CONFIG = Config(
    data=DataConfig(vocab_size=20, speed_factors=(1.0,), num_jobs=1, num_workers=0),
    model=ModelConfig(
        num_layers=3,
        d_model=16,
        num_heads=4,
        head_dim=4,
        state_dim=2,
        subsampling_channels=4,
        predictor_dim=8,
        joiner_dim=8,
    ),
    space=SpaceConfig(depths=(1, 2, 3), ffn_dims=(8, 16, 24)),
    search=SearchConfig(evaluations=9, population=4, seed=2),
)


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train-clean-5", "dev-clean-2"):
        chapter = tmp_path / "corpus" / part / "1" / "2"
        chapter.mkdir(parents=True)
        lines = []
        for number in range(6):
            name = f"1-2-{number:04d}"
            noise = 0.1 * rng.standard_normal(int(16000 * rng.uniform(0.5, 1.0)))
            soundfile.write(chapter / f"{name}.flac", noise, 16000)
            lines.append(f"{name} {' '.join(rng.choice(['ONE', 'TWO', 'NINE'], size=3))}\n")
        (chapter / "1-2.trans.txt").write_text("".join(lines))
    exp = tmp_path / "exp"
    prepare(CONFIG, tmp_path / "corpus", exp)
    save_config(CONFIG, exp / "config.yaml")
    torch.manual_seed(0)
    vocab_size = len((exp / "data" / "lang" / "tokens.txt").read_text().splitlines())
    supernet = Supernet(CONFIG.model, SearchSpace.from_config(CONFIG), vocab_size)
    save_supernet(exp / "supernet", supernet.state_dict(), CONFIG, exp / "data" / "lang")
    return exp


def test_writes_a_front_per_mode_and_never_evaluates_twice(
    exp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--exp-dir", str(exp)]) == 0
    points = load_points(exp / "search" / "pareto.json")
    assert {point.spec.mode for point in points} == {"offline", "streaming"}
    assert sum(point.knee for point in points) == 2
    lines = [json.loads(line) for line in (exp / "search" / "cache.jsonl").read_text().splitlines()]
    assert len(lines) == 9
    assert {SubnetSpec.from_dict(line["spec"]) for line in lines} >= {point.spec for point in points}
    assert "pareto.json" in capsys.readouterr().out

    def refuse(self: SupernetEvaluator, spec: SubnetSpec) -> None:
        raise AssertionError(f"{spec} is in the cache")

    monkeypatch.setattr(SupernetEvaluator, "wer", refuse)
    assert main(["search", "--exp-dir", str(exp)]) == 0
    assert load_points(exp / "search" / "pareto.json") == points


def test_wer_is_that_of_the_chosen_utterances(exp: Path) -> None:
    space = SearchSpace.from_config(CONFIG)
    whole = SupernetEvaluator.load(exp, 0, seed=1)
    assert whole.wer(space.max()).words == 18
    assert whole.wer(space.max()) == whole.wer(space.max())
    part = SupernetEvaluator.load(exp, 2, seed=1)
    assert part.wer(space.min("streaming")).words == 6
    assert SupernetEvaluator.load(exp, 2, seed=1).wer(space.max()) == part.wer(space.max())


def test_random_search_keeps_the_found_front(exp: Path) -> None:
    assert main(["search", "--exp-dir", str(exp), "--random", "--evaluations", "4"]) == 0
    assert load_points(exp / "search" / "random.json")
    assert not (exp / "search" / "pareto.json").exists()


def test_bad_input_is_one_sentence(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--exp-dir", str(exp), "--evaluations", "0"]) == 2
    assert "search.evaluations" in capsys.readouterr().err
    (exp / "supernet" / "model.safetensors").unlink()
    assert main(["search", "--exp-dir", str(exp)]) == 2
    assert "todm average" in capsys.readouterr().err
