"""YAML and dotted overrides to a `Config`, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from todm.config.check import check
from todm.config.fields import show
from todm.config.names import check_key, defaults, kind_of, sections, settings, text_settings
from todm.config.renamed import upgrade
from todm.config.root import Config
from todm.config.values import convert
from todm.config.yaml_reader import parse_yaml, read_yaml
from todm.errors import UserError
from todm.files import write_text

COMMAND_LINE = "command line"
"""Source of an override, in messages."""


def load_config(path: Path | None, overrides: Sequence[str] = (), *, saved: bool = False) -> Config:
    """Read a config: the defaults, then the file, then the overrides.

    Args:
        path: YAML file; None takes the defaults.
        overrides: ``--a.b=value`` or ``--a.b value`` words, as left over from a command line.
        saved: whether a run or an export wrote the file; names of earlier versions are then accepted in it.

    Raises:
        UserError: a missing or broken file, an unknown key, a value of the wrong type or out of range.
    """
    data: Any = {}
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: no such config file" + ("; it is a folder" if path.is_dir() else ""))
        data = read_yaml(path)
        if data is None:
            raise UserError(f"{path}: it holds no settings; write at least one, such as 'train: {{seed: 0}}'")
    return _parse(data, overrides, str(path or "config"), saved)


def config_from_dict(
    data: Mapping[str, Any], source: str = "config", overrides: Sequence[str] = (), *, saved: bool = False
) -> Config:
    """Inverse of `Config.to_dict`.

    Args:
        data: nested settings.
        source: origin, for errors.
        overrides: as in `load_config`.
        saved: as in `load_config`.
    """
    return _parse(data, overrides, source, saved)


def save_config(config: Config, path: Path) -> None:
    """Write the resolved config as YAML."""
    write_text(path, config_to_yaml(config))


def config_to_yaml(config: Config) -> str:
    """The resolved config as YAML text."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def _parse(data: Any, overrides: Sequence[str], source: str, saved: bool) -> Config:
    if saved and isinstance(data, Mapping):
        data = upgrade(data)
    values = _flatten(data, source)
    given = _read_overrides(overrides)
    config: Config = _build(Config, _merge_mappings(values, given))
    try:
        check(config, names=not saved or bool(given))
    except UserError as error:
        named = _KEY.findall(str(error))
        overridden = any(
            f"{one}.".startswith(f"{key}.") or f"{key}.".startswith(f"{one}.")
            for one in given
            for key in named
        )
        raise UserError(f"{COMMAND_LINE if overridden else source}: {error}") from error
    return config


_KEY = re.compile(r"\b[a-z]+(?:\.\w+)+")
"""A dotted key in a message."""


def _read_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Settings from ``--key value`` and ``--key=value``; the last of a key counts."""
    texts: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(f"{COMMAND_LINE}: unexpected {word!r}; a setting is given as --train.seed 3")
        key, equals, text = word[2:].partition("=")
        check_key(key, COMMAND_LINE)
        if not equals:
            if not rest:
                raise UserError(f"{COMMAND_LINE}: --{key} needs a value")
            text = rest.pop(0)
        texts[key] = text
    return _flatten({key: _parse_text(key, text) for key, text in texts.items()}, COMMAND_LINE)


def _parse_text(key: str, text: str) -> Any:
    """Parse the value of an override; a text setting takes it as it is."""
    return text if key in text_settings() else parse_yaml(text, f"{COMMAND_LINE}: {key}")


def _flatten(data: Any, source: str) -> dict[str, Any]:
    """Converted values by dotted key. An entry of a mapping may have a key of its own.

    Raises:
        UserError: an unknown or earlier key, one that is given twice, a value of another type.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{source}: it must hold settings (key: value), not {show(data)}")
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in _walk(data):
        if key in seen:
            raise UserError(f"{source}: {key} is there twice, nested and with dots; remove one")
        seen.add(key)
        if key in sections():
            if not isinstance(value, Mapping):
                raise UserError(
                    f"{source}: {key} is a section and must hold settings (key: value), not {show(value)}"
                )
            continue
        check_key(key, source)
        if value is None:
            raise UserError(f"{source}: {key} has no value; give it one or remove it")
        try:
            values[key] = convert(key, kind_of(key), value)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        if isinstance(value, Mapping):
            seen |= {f"{key}.{name}" for name in value}
    return values


def _walk(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; sections come before their settings."""
    for name, value in data.items():
        key = f"{prefix}{name}"
        yield key, value
        if key in sections() and isinstance(value, Mapping):
            yield from _walk(value, f"{key}.")


def _merge_mappings(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all sources, later ones first; keys of mapping entries become entries of their mapping."""
    merged: dict[str, Any] = {}
    for values in sources:
        merged |= {key: value for key, value in values.items() if key in settings()}
        for key, value in values.items():
            if key not in settings():
                mapping, _, name = key.rpartition(".")
                before = merged.get(mapping, defaults()[mapping])
                merged[mapping] = {**before, name: value}
    return merged


def _build(section: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Make a section from values by dotted key; defaults take the place of missing ones."""
    hints = get_type_hints(section)
    made = {}
    for item in fields(section):
        key = f"{prefix}{item.name}"
        if is_dataclass(hints[item.name]):
            made[item.name] = _build(hints[item.name], values, f"{key}.")
        elif key in values:
            made[item.name] = values[key]
    return section(**made)
