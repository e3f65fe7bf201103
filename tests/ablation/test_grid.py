"""Grids: what they plan, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from todm.ablation.grid import load_grid
from todm.dropout import build_policy
from todm.errors import UserError
from todm.space.cost import count_params
from todm.space.space import SearchSpace

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "recipes" / "librispeech" / "ablate.yaml"

GRID = {
    "base": "base.yaml",
    "settings": {"train.max_steps": 4},
    "seeds": [1, 2],
    "variants": {
        "base": None,
        "same": {"settings": {"train.max_steps": 4}},
        "constant": {"settings": {"train.dropout.policy": "constant", "train.dropout.rate": 0.2}},
        "alone": {
            "settings": {"space.depths": [6], "space.widths": {"ffn_dim": [576]}},
            "sizes": {"min": "max"},
        },
    },
    "tables": [{"title": "One", "reference": "base", "variants": ["constant", "alone"]}],
    "curves": [{"title": "Two", "variants": ["base"], "sizes": ["max"]}],
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "base.yaml").write_text("train: {num_epochs: 2}\n")

    def write(**changes: object) -> Path:
        path = tmp_path / "grid.yaml"
        content = {key: value for key, value in {**GRID, **changes}.items() if value != "absent"}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def test_variants_over_seeds_seed_by_seed(write: Write) -> None:
    grid = load_grid(write())
    runs = grid.plan()
    assert [(run.seed, run.variant) for run in runs] == [
        (seed, name) for seed in (1, 2) for name in ("base", "same", "constant", "alone")
    ]
    for run in runs:
        assert run.config.train.seed == run.seed
        assert (run.config.train.num_epochs, run.config.train.max_steps) == (2, 4)
    constant = runs[2].config.train.dropout
    assert (constant.policy, constant.rate) == ("constant", 0.2)
    assert runs[3].config.space.widths["ffn_dim"] == (576,)
    assert [run.variant for run in grid.plan(["constant"])] == ["constant"] * 2
    alone = grid.variants["alone"]
    assert alone.ladder_name("min") == "max" and alone.ladder_name("max") is None
    assert grid.variants["base"].ladder_name("min") == "min" and grid.tables[0].sizes == ("min", "max")


def test_a_run_is_named_by_all_of_its_settings(write: Write) -> None:
    runs = load_grid(write()).plan()
    assert runs[0].digest == runs[1].digest  # the same settings, said twice
    assert len({run.digest for run in runs}) == 6
    longer = replace(runs[0].config, train=replace(runs[0].config.train, max_steps=5))
    assert replace(runs[0], config=longer).digest != runs[0].digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "nowhere.yaml"}, "nowhere.yaml"),
        ({"seeds": []}, "seeds"),
        ({"seeds": ["one"]}, "seeds"),
        ({"variants": "absent"}, "variants is missing"),
        ({"variants": {}, "tables": [], "curves": []}, "variants"),
        ({"sedes": [1]}, "sedes"),
        ({"variants": {"base": {"setting": {}}}}, "variants.base: 'setting'"),
        ({"tables": [{"title": "x", "reference": "base", "variants": ["other"]}]}, "'other'"),
        ({"curves": [{"title": "x"}]}, "curves: variants is missing"),
        ({"races": [{"title": "x", "reference": "base", "variants": [], "wer": "low"}]}, "races: wer"),
        ({"races": [{"title": "x", "reference": "base", "variants": [], "wer": True}]}, "races: wer"),
        ({"races": [{"title": "x", "reference": "base", "variants": None, "wer": 3}]}, "races: variants"),
        ({"races": [{"title": "x", "reference": ["base"], "variants": [], "wer": 3}]}, "races: reference"),
        ({"tables": [{"title": "x", "reference": "base", "variants": "all"}]}, "tables: variants"),
        ({"races": [{"title": "x", "reference": "other", "variants": [], "wer": 3}]}, "'other'"),
    ],
)
def test_broken_grids(write: Write, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_grid(write(**changes)).plan()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.epochs": 3}, "variants.constant.*epochs"),
        ({"train.dropout.policy": "standout"}, "variants.constant.*ffn_gate"),
        ({"data.vocab_size": 30}, "variants.constant.*prepared once"),
        ({"space.modes": ["streaming"]}, "variants.constant.*no min"),
    ],
)
def test_impossible_variants(write: Write, settings: dict[str, object], message: str) -> None:
    variants = {**GRID["variants"], "constant": {"settings": settings}}  # type: ignore[dict-item]
    with pytest.raises(UserError, match=message):
        load_grid(write(variants=variants)).plan()
    with pytest.raises(UserError, match="no variant 'nobody'"):
        load_grid(write()).plan(["nobody"])


@pytest.mark.parametrize("valid_interval", [-1, 30])
def test_a_race_needs_validations_that_end_a_log_interval(write: Write, valid_interval: int) -> None:
    races = [{"title": "x", "reference": "base", "variants": ["constant"], "wer": 3}]
    settings = {"train.valid_interval": valid_interval, "train.log_interval": 20}
    with pytest.raises(UserError, match=r"variants.base: train.valid_interval.*log_interval, 20"):
        load_grid(write(settings=settings, races=races)).plan()
    for settings["train.valid_interval"] in (0, 40):  # at the ends of epochs only, and every second interval
        assert load_grid(write(settings=settings, races=races)).plan()


def test_the_shipped_grid_shows_what_it_should() -> None:
    grid = load_grid(SHIPPED)
    assert len(grid.seeds) >= 3
    runs = grid.plan()
    configs = {run.variant: run.config for run in runs}
    assert len({run.digest for run in runs}) == len(runs)  # no variant is another one
    for config in configs.values():
        build_policy(config.train.dropout, SearchSpace.from_config(config))
        assert (config.train.max_steps, config.train.optim.schedule) == (900, "cosine")
    shown = {name for table in grid.tables for name in (table.reference, *table.variants)}
    shown |= {name for curve in grid.curves for name in curve.variants}
    assert shown == set(configs)
    supernet = configs["subnet_scaled"]
    space = SearchSpace.from_config(supernet)
    for size, spec in (("min", space.min()), ("mid", space.mid()), ("max", space.max())):
        alone = configs[f"alone_{size}"]
        only = SearchSpace.from_config(alone)
        assert only.min() == only.max()
        assert count_params(alone.model, only.max(), 64) == count_params(supernet.model, spec, 64)


def test_the_shipped_race_compares_like_with_like() -> None:
    grid = load_grid(SHIPPED.with_name("race.yaml"))
    configs = {run.variant: run.config for run in grid.plan() if run.seed == 1}
    alone, sandwich = configs["alone"], configs["sandwich"]
    only, space = SearchSpace.from_config(alone), SearchSpace.from_config(sandwich)
    assert only.min() == only.max() == space.max() != space.min()
    for config in configs.values():
        assert replace(config, space=alone.space, train=alone.train) == alone
        same = replace(config.train, sandwich=alone.train.sandwich, distill=alone.train.distill)
        assert same == alone.train
