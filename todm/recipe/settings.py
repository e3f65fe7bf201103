"""Settings of one call of ``todm run``: the file they come from, and the overrides that its stages read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from todm.config import load_config
from todm.config.comparison import is_named
from todm.errors import UserError
from todm.layout import RunFolder
from todm.recipe.context import LAST_STAGE, TRAIN_STAGE, Context, RecipeOptions
from todm.recipe.fingerprints import Fingerprints
from todm.recipe.stage import Stage
from todm.recipe.stages import STAGES
from todm.space.space import SearchSpace

LATER_SECTIONS = ("export", "search")
"""Sections that always come from ``--conf`` and the command line."""


def load_context(options: RecipeOptions) -> Context:
    """Check the options and read the settings.

    A call that begins after the training takes the settings from the run folder, except for the sections
    `LATER_SECTIONS` and for overrides of settings that its stages read and the training does not.

    Raises:
        UserError: impossible stages, an unusable config, or an override that no stage would read.
    """
    if not options.conf.is_file():
        raise UserError(f"--conf {options.conf}: no such file")
    for number in (options.first, options.last):
        if not 0 <= number <= LAST_STAGE:
            raise UserError(f"stages are numbers from 0 to {LAST_STAGE}, not {number}")
    if options.first > options.last:
        raise UserError(f"--stage {options.first} comes after --stop-stage {options.last}")
    config = load_config(options.conf, options.overrides)
    run = RunFolder(options.exp_dir)
    if options.first > TRAIN_STAGE:
        kept: list[str] = []
        for key, words in _split_overrides(options.overrides):
            if is_named(key, LATER_SECTIONS):
                continue
            if not any(_reads_late(stage, key) for stage in select_stages(options)):
                raise UserError(_explain_unread(key, options))
            kept += words
        if run.config.is_file():
            saved = load_config(run.config, kept, saved=True)
            config = replace(saved, search=config.search, export=config.export)
    SearchSpace.from_config(config)  # reports an impossible space before anything runs
    return Context(options=options, config=config, fingerprints=Fingerprints(run.fingerprints))


def select_stages(options: RecipeOptions) -> Iterator[Stage]:
    """Yield the stages from `options.first` to `options.last`."""
    return (stage for stage in STAGES if options.first <= stage.number <= options.last)


def _reads_late(stage: Stage, key: str) -> bool:
    """Whether a stage after the training reads a setting that the training does not."""
    return stage.declares(key) and not STAGES[TRAIN_STAGE].declares(key)


def _explain_unread(key: str, options: RecipeOptions) -> str:
    readers = [stage for stage in STAGES if stage.declares(key)]
    late = [stage for stage in readers if _reads_late(stage, key) and stage.number > TRAIN_STAGE]
    if late:
        limit = f"--stage is {options.first}"
        if late[0].number > options.last:
            limit = f"--stop-stage is {options.last}"
        return f"--{key}: stage {late[0].number} reads it, and {limit}; include that stage"
    reason = f"stage {readers[0].number} reads it" if readers else "no later stage reads it"
    return (
        f"--{key}: {reason}, and --stage is {options.first}; leave it out, later stages take it from "
        f"{RunFolder(options.exp_dir).config}"
    )


def _split_overrides(words: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield key and words of each override, ``--key value`` or ``--key=value``; all have been checked."""
    rest = list(words)
    while rest:
        count = 1 if "=" in rest[0] else 2
        yield rest[0].removeprefix("--").partition("=")[0], rest[:count]
        del rest[:count]
