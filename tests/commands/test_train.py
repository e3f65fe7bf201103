"""The option ``--until`` of ``todm train`` and ``todm ablate``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prepared import CONFIG, prepare_run
from todm.cli import main
from todm.config import save_config
from todm.train.checkpoint import list_checkpoints


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "--exp-dir", "nowhere", "--until", "-3"], "--until: must be at least 1, got -3"),
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
    assert [path.stem for path in list_checkpoints(tmp_path / "exp" / "checkpoints")] == ["step-00000002"]
