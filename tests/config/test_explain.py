from __future__ import annotations

from pathlib import Path

import pytest

from todm.cli import main
from todm.config import Config
from todm.config.explain import explain, reference_page
from todm.config.fields import walk_settings
from todm.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    text = "run: todm config explain --markdown > docs/reference/configuration.md"
    assert PAGE.read_text(encoding="utf-8") == reference_page(), text


def test_a_setting_a_section_and_everything(capsys: pytest.CaptureFixture[str]) -> None:
    one = explain("train.distill.ratio_clip")
    assert one.startswith("train.distill.ratio_clip: number; in 1 to") and "default 5" in one
    assert "ratio of the teacher" in one
    section = explain("train.optim")
    assert section.count("train.optim.") == 11
    assert section.startswith(
        "train.optim: section\n    Optimiser and learning-rate schedule.\ntrain.optim.name:"
    )
    assert "train.loss: section" in explain("train") and "train.loss: section" in explain()
    assert explain("space.widths.ffn_dim") == explain("space.widths")
    assert "in 1 to 1e+09" in one
    everything = explain()
    assert all(described.key in everything for described in walk_settings(Config))
    assert main(["config", "explain", "train.optim.lr"]) == 0
    assert "learning rate" in capsys.readouterr().out


def test_a_word_finds_the_settings_that_have_it_in_their_name() -> None:
    text = explain("clip")
    assert "train.distill.ratio_clip: " in text and "train.optim.clipping_scale: " in text
    assert "train.seed" not in text


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"did you mean train\.optim\.lr"):
        explain("train.optim.rl")
