"""The option ``--until`` of ``todm train`` and ``todm ablate``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prepared import CONFIG, prepare_run
from todm.cli import main
from todm.config import save_config
from todm.layout import find_checkpoints


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "--exp-dir", "nowhere", "--until", "-3"], "--until: must not be negative, got -3"),
        (
            ["train", "--exp-dir", "nowhere", "--fine-tune", "min", "--until", "3"],
            "--until: cannot be combined with --fine-tune",
        ),
        (["ablate", "--grid", "x.yaml", "--exp-dir", "nowhere", "--until", "3"], "--until: belongs to --run"),
    ],
)
def test_until_is_refused_where_it_has_no_meaning(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert reason in capsys.readouterr().err


def test_training_stops_at_the_given_step(tmp_path: Path) -> None:
    prepare_run(tmp_path)
    save_config(CONFIG, tmp_path / "conf.yaml")
    words = [
        "train",
        "--conf",
        str(tmp_path / "conf.yaml"),
        "--exp-dir",
        str(tmp_path / "exp"),
        "--until",
        "2",
    ]
    assert main(words) == 0
    assert [path.stem for path in find_checkpoints(tmp_path / "exp" / "checkpoints")] == ["step-00000002"]


def test_settings_are_checked_before_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp = tmp_path / "exp"
    for words, reason in (
        (["--conf", "nope.yaml"], "nope.yaml: no such config file"),
        (["--train.sede", "3"], "did you mean train.seed?"),
        ([], f"run 'todm prepare --conf FILE --corpus-dir DIR --exp-dir {exp}' first"),
    ):
        assert main(["train", "--exp-dir", str(exp), *words]) == 2
        assert reason in capsys.readouterr().err
    assert not exp.exists()


def test_a_missing_training_or_supernet_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = {"average": "train", "latency pi4": "average", "extract --ladder": "average"}
    for words, command in missing.items():
        assert main([*words.split(), "--exp-dir", str(tmp_path)]) == 2
        assert f"run 'todm {command} --exp-dir {tmp_path}' first" in capsys.readouterr().err


def test_averaging_takes_one_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["average", str(tmp_path), "--train.seed", "3"]) == 2
    assert "only train.calibrate_utterances can be changed now" in capsys.readouterr().err
