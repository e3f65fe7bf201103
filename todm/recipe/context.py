"""Options of ``todm run``, and the settings and files that its stages work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from todm.config import Config
from todm.config.comparison import NO_EFFECT, flatten_config, is_named
from todm.layout import DataFolder, RunFolder
from todm.recipe.corpus import find_root
from todm.recipe.fingerprints import Fingerprints
from todm.space.space import SearchSpace

LAST_STAGE = 12
TRAIN_STAGE = 4


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Command line of ``todm run``.

    Args:
        corpus_dir: folder of the corpus parts, or the folder that holds ``LibriSpeech/``.
        conf: YAML config.
        exp_dir: run folder.
        first: first stage, 0 to 12.
        last: last stage, 0 to 12.
        synth: whether stage 0 writes a synthetic corpus.
        fine_tune: subnet for stage 8; empty leaves that stage out.
        force: run the stages again even if they are done, and a training on other settings.
        overrides: words of the command line that override settings.
    """

    corpus_dir: Path
    conf: Path
    exp_dir: Path
    first: int = 0
    last: int = LAST_STAGE
    synth: bool = False
    fine_tune: str = ""
    force: bool = False
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the stages of one call work on.

    Args:
        options: the command line.
        config: resolved settings, see `todm.recipe.settings.load_context`.
        fingerprints: computes those of files and corpus parts.
    """

    options: RecipeOptions
    config: Config
    fingerprints: Fingerprints

    @property
    def run(self) -> RunFolder:
        """Files of the run folder."""
        return RunFolder(self.options.exp_dir)

    @property
    def data(self) -> DataFolder:
        """Prepared data of the run."""
        return DataFolder(self.run.data)

    @property
    def train_parts(self) -> tuple[str, ...]:
        """Parts to train on."""
        return self.config.data.train_parts

    @property
    def eval_parts(self) -> tuple[str, ...]:
        """Dev and test parts, each once."""
        return tuple(dict.fromkeys((*self.config.data.dev_parts, *self.config.data.test_parts)))

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, each once."""
        return tuple(dict.fromkeys((*self.train_parts, *self.eval_parts)))

    def part_dir(self, part: str) -> Path:
        """Folder of a corpus part."""
        return find_root(self.options.corpus_dir) / part

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the smallest and the largest net."""
        smallest, _, largest = list(SearchSpace.from_config(self.config).ladder())[:3]
        return smallest, largest

    @property
    def is_trained(self) -> bool:
        """Whether the run folder holds a training, finished or not."""
        return bool(self.run.find_checkpoints())

    def read_settings(self, patterns: tuple[str, ...], config: Config | None = None) -> dict[str, object]:
        """Return the settings that are named by `patterns`, without those that have `NO_EFFECT`.

        Args:
            patterns: keys or sections, ``data.vocab_size`` or ``model``.
            config: another config than that of the context.
        """
        flat = flatten_config(self.config if config is None else config)
        return {key: value for key, value in flat.items() if is_named(key, patterns) and key not in NO_EFFECT}
