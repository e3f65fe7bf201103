"""Every YAML that is shipped parses, and describes a model and a space that fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from todm.config import load_config
from todm.errors import UserError
from todm.space.cost import count_params
from todm.space.space import SearchSpace

CONF = Path(__file__).parents[2] / "recipes" / "librispeech" / "conf"
FILES = sorted(CONF.glob("*.yaml"))


def test_the_promised_files_are_there() -> None:
    assert {path.stem for path in FILES} >= {"demo", "tiny", "mini", "100h", "960h"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parses_into_a_space_with_several_sizes(path: Path) -> None:
    config = load_config(path, [])
    space = SearchSpace.from_config(config)
    sizes = space.ladder()
    assert {"min", "mid", "max", "min-streaming", "mid-streaming", "max-streaming"} <= sizes.keys()
    assert len(set(sizes.values())) == len(sizes)
    for mode in space.modes:
        params = [
            count_params(config.model, make(mode), config.data.vocab_size)
            for make in (space.min, space.mid, space.max)
        ]
        assert params == sorted(params)
        assert params[0] <= 0.45 * params[2]
    assert config.model.num_heads % 4 == 0
    assert config.data.train_parts and config.data.dev_parts
    assert not set(config.data.train_parts) & {*config.data.dev_parts, *config.data.test_parts}
    assert config.export.chunk_ms % (10 * config.model.subsampling_factor) == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_unknown_key_is_refused(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / path.name
    changed.write_text(path.read_text().replace("num_epochs:", "num_epoch:"))
    with pytest.raises(UserError, match="num_epoch"):
        load_config(changed, [])


@pytest.mark.parametrize(("name", "millions"), [("tiny", 1.5), ("100h", 24), ("960h", 65), ("960h-24m", 24)])
def test_sizes_are_those_that_the_comments_say(name: str, millions: float) -> None:
    config = load_config(CONF / f"{name}.yaml", [])
    space = SearchSpace.from_config(config)
    params = count_params(config.model, space.max(), config.data.vocab_size)
    assert params / 1e6 == pytest.approx(millions, rel=0.05)
