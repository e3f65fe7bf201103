"""Names of settings and sections, and what to suggest for an unknown one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import cache
from typing import Any, Literal, get_args, get_origin

from todm.config.fields import Described, show, walk_sections, walk_settings
from todm.config.renamed import RENAMED
from todm.config.root import Config
from todm.errors import UserError


def check_key(key: str, source: str) -> None:
    """Refuse a dotted key that is no setting.

    Args:
        key: such as ``train.optim.lr``.
        source: file or command line, for the message.

    Raises:
        UserError: the key is unknown, or the name that a setting had in an earlier version.
    """
    if key in RENAMED:
        raise UserError(f"{source}: {key} is now called {RENAMED[key]}; use that name")
    mapping, _, name = key.rpartition(".")
    is_entry = mapping in _mappings() and re.fullmatch(r"\w+", name)
    if key in settings() or key in sections() or is_entry:
        return
    raise UserError(f"{source}: {unknown_key(key)}")


def unknown_key(key: str) -> str:
    """What to answer for an unknown key, with the most similar setting or section."""
    similar = _find_similar(key)
    hint = f"did you mean {similar}?" if similar else "todm config explain lists all settings"
    return f"there is no setting {show(key)}; {hint}"


def _find_similar(key: str) -> str | None:
    """The known key whose last name is closest, those of the same section first."""
    section, _, name = key.rpartition(".")

    def rank(known: str) -> tuple[float, float]:
        known_section, _, known_name = known.rpartition(".")
        nearness = SequenceMatcher(None, section, known_section).ratio()
        close = _closeness(name, known_name)
        same = section == known_section
        if not same and len(name) < 5 and close < 0.9:  # short names resemble each other by chance
            close = 0.0
        return close + 0.1 * same, nearness

    entries = [f"{key}.{name}" for key in _mappings() for name in defaults()[key]]
    best = max((*settings(), *sections(), *entries), key=rank)
    return best if rank(best)[0] >= _CUTOFF else None


_CUTOFF = 0.8


def _closeness(name: str, known: str) -> float:
    """Similarity of two names from 0 to 1; a transposition and a missing word are close."""
    if name and set(name.split("_")) < set(known.split("_")):
        return 0.85
    return (
        0.95
        if name != known and sorted(name) == sorted(known)
        else SequenceMatcher(None, name, known).ratio()
    )


@cache
def settings() -> tuple[str, ...]:
    """Dotted names of all settings."""
    return tuple(_described())


@cache
def sections() -> tuple[str, ...]:
    """Dotted names of all sections."""
    return tuple(name for name, _ in walk_sections(Config) if name)


@cache
def defaults() -> Mapping[str, Any]:
    """Default values by dotted name."""
    return {key: one.default for key, one in _described().items()}


@cache
def text_settings() -> frozenset[str]:
    """Settings whose value is a text, which a command line gives as it is."""
    kinds = {key: one.kind for key, one in _described().items()}
    return frozenset(
        key
        for key, kind in kinds.items()
        if kind is str or (get_origin(kind) is Literal and isinstance(get_args(kind)[0], str))
    )


def kind_of(key: str) -> Any:
    """Return the type of a setting, or of an entry of a mapping."""
    if key in _described():
        return _described()[key].kind
    return get_args(_described()[key.rpartition(".")[0]].kind)[1]


@cache
def _mappings() -> tuple[str, ...]:
    """Settings that map names to values, each name of which is a key of its own."""
    return tuple(key for key, one in _described().items() if get_origin(one.kind) is dict)


@cache
def _described() -> Mapping[str, Described]:
    return {one.key: one for one in walk_settings(Config)}
