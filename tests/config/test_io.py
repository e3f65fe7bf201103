from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from todm.config import Config, config_from_dict, config_to_yaml, load_config, names, save_config
from todm.config.fields import walk_settings
from todm.config.renamed import RENAMED
from todm.errors import UserError


def test_round_trips(tmp_path: Path) -> None:
    config = Config()
    config = replace(
        config,
        data=replace(config.data, train_parts=("a", "b"), test_parts=(), speed_factors=(1.0,)),
        space=replace(config.space, modes=("streaming",)),
        train=replace(config.train, optim=replace(config.train.optim, betas=(0.8, 0.9))),
    )
    save_config(config, tmp_path / "deep" / "config.yaml")
    assert load_config(tmp_path / "deep" / "config.yaml") == config
    assert config_from_dict(config.to_dict()) == config
    assert yaml.safe_load(config_to_yaml(config)) == config.to_dict()
    assert load_config(None) == Config()


def test_order_defaults_file_overrides(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("train: {num_epochs: 7, optim: {lr: 0.01}}\nspace: {depths: [2, 6]}\n")
    config = load_config(path, ["--train.num_epochs", "9", "--space.widths.ffn_dim=[8, 16]"])
    assert config.train.num_epochs == 9 and config.train.optim.lr == 0.01
    assert config.space.depths == (2, 6) and config.space.widths["ffn_dim"] == (8, 16)
    assert config.train.seed == Config().train.seed


def test_nothing_deprecated_is_used() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_config(None, ["--train.num_epochs", "9"])
        config_from_dict(Config().to_dict())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nope: 3", ["there is no setting nope"]),
        ("train: {epochs: 3}", ["train.epochs", "did you mean train.num_epochs?"]),
        ("train: {optim: {momentum: 0.9}}", ["momentum"]),
        ("train: {num_epochs: many}", ["train.num_epochs", "many"]),
        ("train: {optim: {name: sgd}}", ["train.optim.name", "sgd"]),
        ("model: {subsampling_factor: 6}", ["model.subsampling_factor", "6"]),
        ("space: {modes: [both]}", ["space.modes", "both"]),
        ("train: [1, 2]", ["train is a section and must hold settings"]),
        ("data: null", ["data is a section and must hold settings"]),
        ("train: {optim: 3}", ["train.optim is a section and must hold settings"]),
        ("- 1", ["it must hold settings"]),
        ("", ["it holds no settings", "seed"]),
        ("train: {optim: {lr: null}}", ["train.optim.lr has no value"]),
        ("data: {test_parts: ~}", ["data.test_parts has no value"]),
        (
            "space: {widths: {ffn_dim: ~}}",
            ["space.widths: must be a mapping of names", "got {ffn_dim: null}"],
        ),
        ("train:\n  seed: 1\ntrain:\n  seed: 2", ["line 3", "'train' is there twice, first in line 1"]),
        ("train:\n  seed: 1\n  seed: 2", ["line 3", "'seed' is there twice"]),
        ("train.seed: 1\ntrain: {seed: 2}", ["train.seed is there twice"]),
        ("train: {num_epochs: 1:30}", ["train.num_epochs: must be an integer, got 1:30"]),
        ("train: {seed: on}", ["train.seed: must be an integer, got on"]),
        ("train: {seed: !!python/name:os.system x}", ["line 1", "not readable as YAML"]),
        ("train: {valid_average: yes}", ["train.valid_average: must be true or false, got yes"]),
        ("train: {valid_average: 'true'}", ["train.valid_average: must be true or false, got 'true'"]),
        ("train: {optim: {lr: '0.1'}}", ["train.optim.lr: must be a number, got '0.1'"]),
        ("data: {noise_dir: 12}", ["data.noise_dir: must be text, got 12; write texts in quotes"]),
        ("data: {train_parts: [on, 3]}", ["data.train_parts: must be a list of texts, got [on, 3]"]),
        ("data: {test_parts: [~]}", ["data.test_parts: must be a list of texts, got [null]"]),
        ("data: {speed_factors: [1:30]}", ["data.speed_factors: must be a list of numbers, got [1:30]"]),
        ("space: {depths: ['6']}", ["space.depths: must be a list of integers, got ['6']"]),
        ("space: {widths: {ffn_dim: [8, 1:30]}}", ["space.widths: must be a mapping of names", "[8, 1:30]"]),
        (
            "space: {widths: {ffn_dim: [8]}}\nspace.widths.ffn_dim: [9]",
            ["space.widths.ffn_dim is there twice"],
        ),
        ("train:\n\tseed: 1", ["line 2", "indent with spaces"]),
        ("train: {seed: 1}\n---\n", ["line 2", "expected a single document"]),
        ("train: {seed: &a [*a]}", ["train.seed: must be an integer, got [[[...]]]"]),
        ("train: {seed: 1" + 400 * "0" + "}", ["train.seed: must be in 0 to 9223372036854775807"]),
        ("train: {optim: {lr: 1" + 400 * "0" + "}}", ["train.optim.lr: must be a number"]),
        ("search: {objectives: [wr]}", ["search.objectives: 'wr' is not an objective; use wer"]),
        ("search: {limits: [size < 1]}", ["search.limits: limit 'size < 1'"]),
        ("trian: {seed: 1}", ["there is no setting trian; did you mean train?"]),
        ("a: " + "[" * 400, ["nested too deeply"]),
        ("? [1]\n: 2", ["a key must be a text"]),
        ("data: {train_parts: ['../../etc']}", ["data.train_parts", "name of one folder"]),
        ("data: {dev_parts: [a/b]}", ["data.dev_parts", "name of one folder"]),
        ("space: {widths: {}}", ["space.widths.ffn_dim (hidden units of the feed-forward): missing"]),
        ("space: {widths: {1: [2]}}", ["space.widths.1: not an elastic dimension"]),
        ("train: {dropout: {policy: mixd}}", ["train.dropout.policy", "did you mean mixed?"]),
        ("train: {dropout: {schedule: {name: no}}}", ["train.dropout.schedule.name", "choose one of"]),
        ("train: {dropout: {reweighted: {penalty: no}}}", ["penalty", "choose one of"]),
        ("train: {num_epochs: 3", ["conf.yaml"]),
        ("model: {num_heads: 6}", ["model.num_heads", "multiple of 4"]),
        ("model: {state_dim: 0}", ["model.state_dim", "in 1 to"]),
        ("train: {log_interval: 0}", ["train.log_interval", "in 1 to"]),
        ("train: {average_from: 1.5}", ["train.average_from"]),
        ("train: {average_from: .nan}", ["train.average_from"]),
        ("train: {average_window: 3}", ["train.average_window", "average_period"]),
        ("train: {distill: {weight: -1}}", ["train.distill.weight"]),
        ("train: {loss: {label_context_dropout: 1}}", ["train.loss.label_context_dropout", "below 1"]),
        (
            "train: {loss: {alignment_warmup_label_context_dropout: 2}}",
            ["train.loss.alignment_warmup_label_context_dropout", "0 to 1"],
        ),
        ("augment: {tempo: -0.1}", ["augment.tempo", "at least 0"]),
        ("train: {collapse: {factor: .nan}}", ["train.collapse.factor", "above 1"]),
        ("train: {collapse: {lr_scale: 1}}", ["train.collapse.lr_scale"]),
    ],
)
def test_bad_files_are_named_in_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 and message.startswith(f"{path}: ")
    for word in words:
        assert word in message


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("train: {seed: 010, optim: {lr: 1e-3}}\ndata: {test_parts: [2026-01-02, off]}\n")
    config = load_config(path)
    assert (config.train.seed, config.train.optim.lr) == (10, 1e-3)
    assert config.data.test_parts == ("2026-01-02", "off")
    assert load_config(None, ["--data.shar_dir", "123"]).data.shar_dir == "123"


def test_message_names_where_the_value_came_from(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("train: {seed: 1}\n")
    with pytest.raises(UserError, match=r"^command line: train\.optim\.lr: must be above"):
        load_config(path, ["--train.optim.lr", "1000"])
    path.write_text("train: {optim: {lr: 1000}}\n")
    with pytest.raises(UserError, match=r"conf\.yaml: train\.optim\.lr: must be above"):
        load_config(path, ["--train.seed", "1"])
    assert load_config(path, ["--train.optim.lr=0.1"]).train.optim.lr == 0.1


def test_a_contradiction_names_the_command_line_when_an_override_takes_part(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("data: {min_utterance: 5}\n")
    sentence = r"data\.min_utterance: must be below data\.max_utterance"
    with pytest.raises(UserError, match=f"^command line: {sentence}"):
        load_config(path, ["--data.max_utterance", "4"])
    path.write_text("data: {min_utterance: 5, max_utterance: 4}\n")
    with pytest.raises(UserError, match=rf"conf\.yaml: {sentence}"):
        load_config(path, ["--train.seed", "1"])
    with pytest.raises(UserError, match=r"^command line: space\.depths: the largest depth is 6"):
        load_config(None, ["--model.num_layers", "3"])


def test_a_dotted_key_adds_to_a_mapping_and_a_nested_one_replaces_it(tmp_path: Path) -> None:
    words = ["--space.widths.other_dim", "[1, 2]"]
    with pytest.raises(UserError, match=r"^command line: space\.widths\.other_dim: not an elastic dimension"):
        load_config(None, words)
    path = tmp_path / "conf.yaml"
    path.write_text("space: {widths: {ffn_dim: [8, 16]}}\n")
    assert load_config(path, ["--space.widths", "{ffn_dim: [3]}"]).space.widths == {"ffn_dim": (3,)}
    assert load_config(path, ["--space.widths.ffn_dim", "[4]"]).space.widths == {"ffn_dim": (4,)}
    path.write_text("space: {widths: {other_dim: [8, 16]}}\n")
    with pytest.raises(UserError, match="other_dim: not an elastic dimension"):
        load_config(path)


TEXTS = st.sampled_from(
    ["null", "{}", "[]", "-1", "1e9", ".nan", "abc", "'", "*a", "&a [*a]", "- ", "? ", "\x00"]
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_one_sentence(data: st.DataObject) -> None:
    confs = sorted(Path("recipes/librispeech/conf").glob("*.yaml"))
    lines = data.draw(st.sampled_from(confs)).read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "copy", "value", "indent", "cut"]))
        if change == "drop":
            lines[row] = ""
        elif change == "copy":
            lines.insert(data.draw(st.integers(0, len(lines))), lines[row])
        elif change == "value":
            lines[row] = lines[row].partition(":")[0] + ": " + data.draw(TEXTS)
        elif change == "indent":
            lines[row] = "  " * data.draw(st.integers(0, 3)) + lines[row].lstrip()
        else:
            lines[row] = lines[row][: data.draw(st.integers(0, len(lines[row])))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conf.yaml"
        path.write_text("\n".join(lines))
        try:
            load_config(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


KEYS = [
    *names.settings(),
    *names.sections(),
    *RENAMED,
    "space.widths.ffn_dim",
    "space.widths.x",
    "space.widths.a\n",
    "a.b\n",
    "",
    ".",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**30) | st.floats() | st.text(max_size=5) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ffn_dim", "seed", "a\n"]), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(
    values=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    words=st.lists(st.tuples(st.sampled_from(KEYS), TEXTS), max_size=2),
    saved=st.booleans(),
)
def test_values_of_any_type_end_in_one_sentence(
    values: dict[str, Any], words: list[tuple[str, str]], saved: bool
) -> None:
    overrides = [f"--{key}={text}" for key, text in words]
    try:
        config_from_dict(values, "file.yaml", overrides, saved=saved)
    except UserError as error:
        assert str(error).startswith(("file.yaml: ", "command line: ")) and "\n" not in str(error)
        assert len(str(error)) < 500


def test_bad_overrides_and_dicts() -> None:
    for words in (["--train.epochs", "3"], ["--train.num_epochs", "x"], ["stray"], ["--model.num_heads=2"]):
        with pytest.raises(UserError):
            load_config(None, words)
    with pytest.raises(UserError, match=r"missing\.yaml: no such config file"):
        load_config(Path("missing.yaml"))
    broken = Config().to_dict()
    broken["train"]["surprise"] = 1
    with pytest.raises(UserError, match="checkpoint x"):
        config_from_dict(broken, "checkpoint x")


def test_a_schedule_that_follows_validation_needs_validation() -> None:
    words = ["--train.dropout.schedule.name", "validation"]
    assert load_config(None, words).train.valid_interval == 0
    with pytest.raises(UserError, match=r"schedule\.name: validation moves at validations.*valid_interval"):
        load_config(None, [*words, "--train.valid_interval", "-1"])


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("--train.num_epochs=1.5", "train.num_epochs: must be an integer, got 1.5"),
        ("--train.seed=true", "train.seed: must be an integer, got true"),
        ("--train.optim.lr=high", "train.optim.lr: must be a number, got high"),
        ("--data.train_parts=dev", "data.train_parts: must be a list of texts, got dev"),
        ("--space.depths=6", "space.depths: must be a list of integers, got 6"),
        ("--train.precision=float16", "train.precision: must be float32 or bfloat16, got float16"),
        ("--train.device=tpu", "train.device: must be auto or cpu or cuda, got tpu"),
        ("--train.optim=3", "train.optim is a section"),
        ("--train=3", "train is a section"),
    ],
)
def test_wrong_types_are_reported_in_plain_words(word: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, [word])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_similar_names_are_suggested() -> None:
    for words, suggestion in (
        (["--train.optim.rl", "3"], "train.optim.lr"),
        (["--lr=3"], "train.optim.lr"),
        (["--epochs", "3"], r"train\.\S*epochs"),
        (["--train.num_epoch", "3"], "train.num_epochs"),
        (["--train.optim.warmup", "3"], "train.optim.warmup_steps"),
        (["--ffn_dim", "[3]"], "space.widths.ffn_dim"),
        (["--optim", "{}"], "train.optim"),
    ):
        with pytest.raises(UserError, match=f"did you mean {suggestion}"):
            load_config(None, words)
    for word in ("--nothing.at.all=1", "--train.true=1", "--train.optim.momentum=1", "--=1"):
        with pytest.raises(UserError, match="todm config explain lists all settings"):
            load_config(None, [word])


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_earlier_names_are_refused_in_a_conf_and_read_from_saved_files(
    old: str, new: str, tmp_path: Path
) -> None:
    assert any(new == one.key or new.startswith(f"{one.key}.") for one in walk_settings(Config))
    value: Any = Config().to_dict()
    for name in new.split("."):
        value = value[name]
    data: dict[str, Any] = {}
    section = data
    *path, name = old.split(".")
    for key in path:
        section = section.setdefault(key, {})
    section[name] = value
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    for words in ((), (f"--{old}={value}",)):
        with pytest.raises(UserError, match=f"{old} is now called {new}"):
            load_config(None if words else file, words)
    assert load_config(file, saved=True) == Config() == config_from_dict(data, saved=True)
    assert data == yaml.safe_load(file.read_text())
