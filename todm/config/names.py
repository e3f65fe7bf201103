"""Names of settings and sections, and what to suggest for an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Literal, get_origin

from todm.config.fields import walk_sections, walk_settings
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
    if key in settings() or key in sections() or any(key.startswith(f"{name}.") for name in _mappings()):
        return
    raise UserError(f"{source}: {unknown_key(key)}")


def unknown_key(key: str) -> str:
    """What to answer for an unknown key, with the most similar setting."""
    name = key.rsplit(".", 1)[-1]
    cutoff = 0.75 if len(name) >= 5 else 0.86  # short names resemble each other by chance
    by_name = {known.rsplit(".", 1)[-1]: known for known in reversed(settings())}
    similar = difflib.get_close_matches(key, settings(), n=1, cutoff=0.6) or [
        by_name[close] for close in difflib.get_close_matches(name, by_name, n=1, cutoff=cutoff)
    ]
    hint = f"did you mean {similar[0]}?" if similar else "todm config explain lists all settings"
    return f"there is no setting {key}; {hint}"


@cache
def settings() -> tuple[str, ...]:
    """Dotted names of all settings."""
    return tuple(described.key for described in walk_settings(Config))


@cache
def sections() -> tuple[str, ...]:
    """Dotted names of all sections."""
    return tuple(name for name, _ in walk_sections(Config) if name)


@cache
def _mappings() -> tuple[str, ...]:
    """Settings that map names to values, each name of which is a key of its own."""
    return tuple(described.key for described in walk_settings(Config) if get_origin(described.kind) is dict)


@cache
def text_settings() -> frozenset[str]:
    """Settings whose value is a text, which a command line gives as it is."""
    kinds = {one.key: one.kind for one in walk_settings(Config)}
    return frozenset(key for key, kind in kinds.items() if kind is str or get_origin(kind) is Literal)


@cache
def number_settings() -> Mapping[str, str]:
    """Settings whose value is one number, with their type in words."""
    return {one.key: one.type_text for one in walk_settings(Config) if one.kind in (int, float)}
