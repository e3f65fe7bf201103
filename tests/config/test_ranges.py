"""Values outside the ranges that the definitions state: generated from them, none listed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from todm.cli import main
from todm.config import Config, config_from_dict
from todm.config.check import check
from todm.config.fields import Described, walk_settings
from todm.errors import UserError


def is_number(kind: Any) -> bool:
    return kind in (int, float)


def bad_numbers(one: Described, kind: Any) -> Iterator[Any]:
    """Numbers that the setting must refuse, for a setting or an item of a list."""
    rules = one.setting
    for candidate in (-1, 0, 1e9, 1e300, -1e300):
        number = int(candidate) if kind is int else float(candidate)
        if not rules.allows(number):
            yield number
    if kind is float:
        yield from (math.nan, math.inf, -math.inf)


def bad_values(one: Described) -> Iterator[Any]:
    """Values that the setting must refuse."""
    kind, rules, default = one.kind, one.setting, one.default
    if is_number(kind):
        yield from bad_numbers(one, kind)
    elif get_origin(kind) is Literal:
        yield from ("surprise", -1)
    elif get_origin(kind) is dict:
        inner = Described(
            key=one.key, kind=get_args(kind)[1], default=next(iter(default.values())), setting=rules
        )
        for value in bad_values(inner):
            yield {name: value for name in default}
    elif get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if is_number(item):
            for number in bad_numbers(one, item):
                yield [number, *default[1:]]
        else:
            yield [-1.5]
        if item is str:
            yield [" ", *default]
        if rules.min_items:
            yield []
        if rules.ascending:
            yield [*reversed(default)]
        if rules.unique or rules.ascending:
            twice = default or ("x",)
            yield [twice[0], *twice]
        if rules.pair:
            yield [default[1], default[0]]
        if get_args(kind)[-1] is not Ellipsis:
            yield [*default, default[-1]]


CASES = [
    pytest.param(one, value, id=f"{one.key}-{value}")
    for one in walk_settings(Config)
    for value in bad_values(one)
]


def with_value(key: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {}
    section = data
    *path, name = key.split(".")
    for part in path:
        section = section.setdefault(part, {})
    section[name] = value
    return data


def replaced(config: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return replace(config, **{name: replaced(getattr(config, name), rest, value) if rest else value})


def as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def assert_one_sentence(error: UserError, key: str) -> None:
    message = str(error)
    assert key in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize("one", list(walk_settings(Config)), ids=lambda one: one.key)
def test_values_out_of_range_are_one_sentence_with_the_key(one: Described) -> None:
    """Values of the right type, from Python."""
    if get_origin(one.kind) is Literal or one.kind in (str, bool):
        return
    for value in bad_values(one):
        pair = get_origin(one.kind) is tuple and get_args(one.kind)[-1] is not Ellipsis
        if value != [-1.5] and not (pair and len(value) != 2):  # wrong types come from files only
            with pytest.raises(UserError) as caught:
                check(replaced(Config(), one.key, as_tuples(value)))
            assert_one_sentence(caught.value, one.key)


@pytest.mark.parametrize(("one", "value"), CASES[::5])
def test_a_value_from_a_file_is_one_sentence_with_the_key(one: Described, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        config_from_dict(with_value(one.key, value))
    assert_one_sentence(caught.value, one.key)


@pytest.mark.parametrize(("one", "value"), CASES[3::40])
def test_the_command_line_refuses_it_before_anything_is_read(
    one: Described, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    words = ["config", "show", f"--{one.key}={text}"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("todm: ")


def test_every_number_has_both_bounds_and_every_setting_a_meaning() -> None:
    described = list(walk_settings(Config))
    assert len(described) > 100 and len({one.key for one in described}) == len(described)
    for one in described:
        rules = one.setting
        item = get_args(one.kind)[0] if get_origin(one.kind) is tuple else one.kind
        if is_number(item):
            assert rules.ge is not None or rules.gt is not None, one.key
            assert rules.le is not None or rules.lt is not None, one.key
        assert len(rules.doc.split()) > 2 and rules.doc.endswith("."), one.key


def test_defaults_are_in_range() -> None:
    assert config_from_dict({}) == Config()


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"data": {"dev_parts": ["train-clean-5"]}}, "data.dev_parts"),
        ({"data": {"min_utterance": 30.0}}, "data.min_utterance"),
        ({"train": {"distill": {"alpha_min": 1.0, "alpha_max": 0.5}}}, "train.distill.alpha_min"),
        ({"train": {"loss": {"lm_scale": 0.7, "am_scale": 0.7}}}, "train.loss.lm_scale"),
        ({"space": {"depths": [4, 5]}}, "space.depths"),
        ({"model": {"num_heads": 6}}, "model.num_heads"),
        ({"export": {"chunk_ms": 330}}, "export.chunk_ms"),
        ({"data": {"shar_dir": "pipe:cat shar"}}, "data.shar_dir"),
        ({"train": {"loss": {"backend": "k2", "path_power": 2.0}}}, "train.loss.path_power"),
        (
            {
                "train": {
                    "dropout": {"policy": "reweighted", "reweighted": {"penalty": "scad", "concavity": 1}}
                }
            },
            "train.dropout.reweighted.concavity",
        ),
    ],
)
def test_settings_that_contradict_each_other(data: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=f"^config: {key}: "):
        config_from_dict(data)


def test_names_that_are_known_without_torch_are_registered() -> None:
    registered = [one.setting for one in walk_settings(Config) if one.setting.registry]
    assert len(registered) == 3
    for rules in registered:
        assert set(rules.choices) <= set(resolve_name(rules.registry))
