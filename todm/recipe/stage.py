"""Interface of a stage: what it reads, what it writes, and its commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from todm.config.comparison import NO_EFFECT, is_named, is_setting
from todm.recipe.context import Context
from todm.recipe.marks import Change, Mark, Reads, find_changes

Command = tuple[str, ...]
"""Words of a command line after ``todm``; those of another program begin with ``python``."""


class Stage(ABC):
    """One stage of the recipe.

    Class attributes:
        number: 0 to 12.
        name: short name.
        settings: keys or sections of the config that it reads; those with `todm.config.comparison.NO_EFFECT`
            are left out.
        unread_settings: keys in these sections that it does not read.
        free_settings: those of `settings` that do not affect the trained net.
    """

    number: ClassVar[int]
    name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    unread_settings: ClassVar[tuple[str, ...]] = ()
    free_settings: ClassVar[tuple[str, ...]] = ()

    def mark_name(self, context: Context) -> str:
        """Name of the stage's mark in ``EXP/.done``."""
        return str(self.number)

    def declares(self, key: str) -> bool:
        """Whether `settings` names a dotted key and `unread_settings` does not."""
        return is_named(key, self.settings) and key not in self.unread_settings

    def select_settings(self, context: Context) -> tuple[str, ...]:
        """Return those of `settings` that are read with the present config."""
        return self.settings

    def read_options(self, context: Context) -> dict[str, object]:
        """Return options of ``todm run`` that the stage reads."""
        return {}

    def read_settings(self, context: Context) -> dict[str, object]:
        """Return the settings that the stage reads, by dotted key."""
        found = context.read_settings(self.select_settings(context))
        return {key: value for key, value in found.items() if self.declares(key)}

    def find_changes(self, mark: Mark, context: Context) -> list[Change]:
        """List what has changed since the stage was marked.

        Settings in the mark that the stage read in an earlier version only are ignored.
        """
        settings = {
            key: value
            for key, value in mark.reads.settings.items()
            if not is_setting(key) or (self.declares(key) and key not in NO_EFFECT)
        }
        return find_changes(replace(mark.reads, settings=settings), self.reads(context))

    @abstractmethod
    def list_inputs(self, context: Context) -> Iterable[Path]:
        """List the files that the stage reads."""

    def list_corpus_parts(self, context: Context) -> Sequence[str]:
        """List the corpus parts whose audio or transcripts the stage reads."""
        return ()

    @abstractmethod
    def list_outputs(self, context: Context) -> Iterable[Path]:
        """List the files that exist after the stage."""

    @abstractmethod
    def make_commands(self, context: Context) -> Iterator[Command]:
        """Yield the commands of the stage; each is run before the next is made."""

    def clear_outdated(self, context: Context, changes: Sequence[Change]) -> None:  # noqa: B027
        """Remove results that resuming inside the stage must not keep; by default none.

        Args:
            context: the present call.
            changes: what has changed since the stage was done.
        """

    def reads(self, context: Context) -> Reads:
        """Return everything that the stage reads now."""
        settings = self.read_settings(context)
        inputs = {
            _shorten(path, context): context.fingerprints.compute(path) for path in self.list_inputs(context)
        }
        for part in self.list_corpus_parts(context):
            listing = context.fingerprints.list_part(context.part_dir(part))
            inputs[f"corpus {part}"] = listing.fingerprint
        return Reads(settings=self.read_options(context) | settings, inputs=inputs)

    def affects_training(self, change: Change, context: Context) -> bool:
        """Whether a change of this stage's reads makes a trained net outdated."""
        return False


def _shorten(path: Path, context: Context) -> str:
    try:
        return path.relative_to(context.run.path).as_posix()
    except ValueError:
        return str(path)
