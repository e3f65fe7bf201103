from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todm.config import Config, ModelConfig, SpaceConfig
from todm.config.check import check
from todm.errors import UserError
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

SPACE = SearchSpace(
    num_layers=6, depths=(2, 4, 6), widths={"ffn_dim": (8, 16, 32)}, modes=("offline", "streaming")
)


@given(st.integers(1, 40), st.data())
def test_layers_are_spread_evenly_between_first_and_last(num_layers: int, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, num_layers))
    space = SearchSpace(
        num_layers=num_layers, depths=(num_layers,), widths={"ffn_dim": (8,)}, modes=("offline",)
    )
    layers = space.layers_at(depth)
    assert len(layers) == len(set(layers)) == depth
    assert layers[-1] == num_layers - 1
    if depth > 1:
        assert layers[0] == 0
        gaps = [b - a for a, b in pairwise(layers)]
        assert max(gaps) - min(gaps) <= 1


@given(st.integers())
def test_samples_are_inside_and_a_function_of_the_generator(seed: int) -> None:
    spec = SPACE.sample(random.Random(seed))
    assert SPACE.contains(spec)
    assert spec.layers == SPACE.layers_at(spec.depth)
    assert spec.depth in SPACE.depths
    assert SPACE.sample(random.Random(seed)) == spec
    assert SPACE.sample(random.Random(seed), "streaming").mode == "streaming"


def test_samples_reach_every_choice() -> None:
    rng = random.Random(0)
    drawn = [SPACE.sample(rng) for _ in range(300)]
    assert {spec.depth for spec in drawn} == set(SPACE.depths)
    assert {spec.mode for spec in drawn} == set(SPACE.modes)
    assert {dim for spec in drawn for dim in spec.width("ffn_dim")} == set(SPACE.widths["ffn_dim"])
    assert any(len(set(spec.width("ffn_dim"))) > 1 for spec in drawn)


def test_ladder_and_corners() -> None:
    ladder = SPACE.ladder()
    names = ["min", "mid", "max", "min-streaming", "mid-streaming", "max-streaming"]
    assert list(ladder) == names
    assert ladder["mid"] == SubnetSpec(layers=(0, 1, 3, 5), widths={"ffn_dim": (16,) * 4}, mode="offline")
    assert SPACE.max() == ladder["max"]
    assert list(SPACE.corners()) == [ladder["min"], ladder["min-streaming"], ladder["max-streaming"]]
    streaming = SearchSpace(num_layers=2, depths=(1, 2), widths={"ffn_dim": (8,)}, modes=("streaming",))
    assert list(streaming.ladder()) == ["min-streaming", "mid-streaming", "max-streaming"]
    assert streaming.max().mode == "streaming"


def test_resolve() -> None:
    assert SPACE.resolve("mid-streaming") == SPACE.mid("streaming")
    with pytest.raises(UserError, match=r"'huge': not one of min, mid, max"):
        SPACE.resolve("huge")


@pytest.mark.parametrize(
    "spec",
    [
        SubnetSpec(layers=(0, 6), widths={"ffn_dim": (8, 8)}, mode="offline"),
        SubnetSpec(layers=(0, 5), widths={"ffn_dim": (8, 12)}, mode="offline"),
    ],
)
def test_outside(spec: SubnetSpec) -> None:
    assert not SPACE.contains(spec)
    with pytest.raises(UserError, match="outside the trained space"):
        SPACE.check(spec)
    offline = SearchSpace(num_layers=6, depths=(6,), widths={"ffn_dim": (8,)}, modes=("offline",))
    assert not offline.contains(SPACE.max("streaming"))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"depths": (6, 2)}, r"space\.depths"),
        ({"depths": ()}, r"space\.depths"),
        ({"depths": (0, 6)}, r"space\.depths"),
        ({"depths": (2, 2, 6)}, r"space\.depths"),
        ({"depths": (2, 4)}, r"space\.depths: the largest depth is 4, but model\.num_layers is 6"),
        ({"depths": (2, 8)}, r"model\.num_layers"),
        ({"widths": {"ffn_dim": (32, 8)}}, r"space\.widths\.ffn_dim.*ascending"),
        ({"widths": {"ffn_dim": ()}}, r"space\.widths\.ffn_dim"),
        ({"modes": ()}, r"space\.modes"),
        ({"modes": ("offline", "offline")}, r"space\.modes"),
    ],
)
def test_impossible_spaces_name_the_key(changes: dict[str, Any], key: str) -> None:
    whole: dict[str, Any] = {"depths": (2, 6), "widths": {"ffn_dim": (8, 16)}, "modes": ("offline",)}
    with pytest.raises(UserError, match=key):
        check(Config(model=ModelConfig(num_layers=6), space=SpaceConfig(**(whole | changes))))
    with pytest.raises(UserError, match=key.removesuffix(".*ascending")):
        SearchSpace(num_layers=6, **(whole | changes))


def test_space_of_one_spec() -> None:
    """The widths differ by layer, so a list of allowed widths does not describe the space."""
    spec = SubnetSpec(layers=(0, 1, 2), widths={"ffn_dim": (16, 8, 32)}, mode="streaming")
    space = SearchSpace.of(spec)
    assert set(space.ladder().values()) == {spec}
    assert space.sample(random.Random(0)) == space.sample(random.Random(1), "offline") == spec
    assert space.contains(spec) and not space.contains(SPACE.max())
    assert not space.contains(SubnetSpec(layers=(0, 1, 2), widths={"ffn_dim": (8, 8, 32)}, mode="streaming"))
    assert list(space.corners()) == []


def test_default_config_has_a_space() -> None:
    config = Config()
    space = SearchSpace.from_config(config)
    assert space.max().depth == config.model.num_layers
    assert set(space.max().width("ffn_dim")) == {config.space.widths["ffn_dim"][-1]}
