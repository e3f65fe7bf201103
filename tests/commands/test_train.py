"""What ``todm train`` and ``todm ablate`` say of ``--until`` where it has no meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prepared import CONFIG, prepare_run
from todm.cli import main
from todm.config import save_config
from todm.train.checkpoint import list_checkpoints


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--exp-dir", "nowhere", "--until", "-3"], "--until: -3 is no number of batches"),
        (
            ["train", "--exp-dir", "nowhere", "--init", "min", "--until", "3"],
            "--until: does not go with --init",
        ),
        (["ablate", "--grid", "x.yaml", "--exp-dir", "nowhere", "--until", "3"], "--until: belongs to --run"),
    ],
)
def test_until_is_not_passed_over(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_training_ends_where_it_shall(tmp_path: Path) -> None:
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
