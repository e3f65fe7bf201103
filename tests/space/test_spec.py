from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todm.config import Mode
from todm.errors import UserError
from todm.space.spec import SubnetSpec


@st.composite
def specs(draw: st.DrawFn) -> SubnetSpec:
    layers = draw(st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True))
    widths = draw(st.lists(st.integers(1, 4000), min_size=len(layers), max_size=len(layers)))
    modes: list[Mode] = ["offline", "streaming"]
    mode = draw(st.sampled_from(modes))
    return SubnetSpec(layers=tuple(sorted(layers)), widths={"ffn_dim": tuple(widths)}, mode=mode)


@given(specs(), specs())
def test_equal_specs_have_equal_text_and_name(one: SubnetSpec, other: SubnetSpec) -> None:
    assert SubnetSpec.from_dict(one.to_dict()) == one
    assert hash(SubnetSpec.from_dict(one.to_dict())) == hash(one)
    assert (one.to_json() == other.to_json()) == (one == other)
    assert one.name == SubnetSpec.from_dict(one.to_dict()).name


def test_names_differ_by_order_of_widths_and_layers() -> None:
    variants = [
        SubnetSpec(layers=layers, widths={"ffn_dim": dims}, mode=mode)
        for layers in ((0, 1), (0, 2))
        for dims in ((8, 16), (16, 8))
        for mode in ("offline", "streaming")
    ]
    assert len({spec.name for spec in variants}) == len(variants)


def test_file_round_trip(tmp_path: Path) -> None:
    spec = SubnetSpec(layers=(0, 3), widths={"ffn_dim": (8, 16)}, mode="streaming")
    spec.save(tmp_path / "spec.json")
    assert SubnetSpec.load(tmp_path / "spec.json") == spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "missing; give the spec.json of a subnet"),
        ("{", "not a readable JSON file"),
        ("[1]", "is a JSON object"),
        ('{"layers": [0], "mode": "offline"}', "expected the keys"),
        ('{"layers": [0], "ffn_dims": [8], "mode": "offline", "heads": 4}', "expected the keys"),
        ('{"layers": [], "ffn_dims": [], "mode": "offline"}', "layers must be ascending"),
        ('{"layers": [2, 1], "ffn_dims": [8, 8], "mode": "offline"}', "layers must be ascending"),
        ('{"layers": [1, 1], "ffn_dims": [8, 8], "mode": "offline"}', "layers must be ascending"),
        ('{"layers": [-1, 1], "ffn_dims": [8, 8], "mode": "offline"}', "layers must be ascending"),
        ('{"layers": [0, 1], "ffn_dims": [8], "mode": "offline"}', "one positive width per layer"),
        ('{"layers": [0, 1], "ffn_dims": [8, 0], "mode": "offline"}', "one positive width per layer"),
        ('{"layers": [0], "ffn_dims": [8], "mode": "both"}', "mode must be"),
        ('{"layers": [0], "widths": 8, "mode": "offline"}', "widths must map"),
        ('{"layers": [0], "widths": {"ffn_dim": [8, 9]}, "mode": "offline"}', r"widths\.ffn_dim needs one"),
        ('{"layers": ["a"], "ffn_dims": [8], "mode": "offline"}', "layers"),
        ('{"layers": 3, "ffn_dims": [8], "mode": "offline"}', "layers"),
    ],
)
def test_broken_files_are_the_users_fault(text: str | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=reason):
        SubnetSpec.load(path)


def test_earlier_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text('{"ffn_dims": [8, 16], "layers": [0, 3], "mode": "streaming"}')
    assert SubnetSpec.load(path) == SubnetSpec(layers=(0, 3), widths={"ffn_dim": (8, 16)}, mode="streaming")


def test_widths_are_immutable_and_ordered_by_name() -> None:
    one = SubnetSpec(layers=(0,), widths={"b": [2], "a": [1]}, mode="offline")
    other = SubnetSpec(layers=(0,), widths={"a": (1,), "b": (2,)}, mode="offline")
    assert one == other and hash(one) == hash(other) and one.to_json() == other.to_json()
    assert one < SubnetSpec(layers=(0,), widths={"a": (1,), "b": (3,)}, mode="offline")
    with pytest.raises(TypeError):
        one.widths["a"] = (3,)  # type: ignore[index]
