"""YAML and dotted overrides to a `Config`, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from todm.config.check import check
from todm.config.fields import walk_settings
from todm.config.names import check_key, number_settings, sections, text_settings
from todm.config.renamed import upgrade
from todm.config.root import Config
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
            raise UserError(f"{path}: no such config file")
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
    _check_sections(data, source)
    given = _read_overrides(overrides)
    parser = _make_parser()
    with _blame(source):
        namespace = parser.parse_object(_nest(_walk(data)))
    if given:
        with _blame(COMMAND_LINE):
            namespace = parser.parse_object(_nest((*_walk(data), *given.items())))
    config = Config(**parser.instantiate(namespace).as_dict())
    try:
        check(config)
    except UserError as error:
        key = str(error).partition(":")[0]
        overridden = any(f"{key}.".startswith(f"{one}.") for one in given)
        raise UserError(f"{COMMAND_LINE if overridden else source}: {error}") from error
    return config


def _read_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Values by dotted key from ``--key value`` and ``--key=value``; the last of a key counts."""
    values: dict[str, Any] = {}
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
        values[key] = text if key in text_settings() else parse_yaml(text, f"{COMMAND_LINE}: {key}")
    _check_sections(values, COMMAND_LINE)
    return values


def _nest(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Sections from dotted keys; a later value replaces an earlier one."""
    result: dict[str, Any] = {}
    for key, value in values:
        if key in sections():
            continue
        *path, name = key.split(".")
        section = result
        for part in path:
            section = section.setdefault(part, {})
        section[name] = dict(value) if isinstance(value, Mapping) else value
    return result


@contextmanager
def _blame(source: str) -> Iterator[None]:
    """Report an error of jsonargparse as one of `source`."""
    try:
        yield
    except Exception as error:  # jsonargparse lets yaml's and its own errors through
        raise UserError(f"{source}: {_explain_error(error)}") from error


def _check_sections(data: Any, source: str) -> None:
    """Refuse unknown and renamed keys, and a value in place of a section."""
    if not isinstance(data, Mapping):
        raise UserError(f"{source}: it must hold settings (key: value), not {data!r}")
    seen: set[str] = set()
    for key, value in _walk(data):
        if key in seen:
            raise UserError(f"{source}: {key} is there twice, nested and with dots; remove one")
        seen.add(key)
        if value is None and key not in sections():
            raise UserError(f"{source}: {key} has no value; give it one or remove it")
        if key not in sections():
            check_key(key, source)
            kind = number_settings().get(key)
            if kind and isinstance(value, str):  # jsonargparse would read 1:30 as 90
                raise UserError(
                    f"{source}: {key}: must be {_with_article(number_settings()[key])}, got {value}"
                )
        elif not isinstance(value, Mapping):
            raise UserError(
                f"{source}: {key} is a section and must hold settings (key: value), not {value!r}"
            )


def _walk(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; sections come before their settings."""
    for name, value in data.items():
        key = f"{prefix}{name}"
        yield key, value
        if key in sections() and isinstance(value, Mapping):
            yield from _walk(value, f"{key}.")


@cache
def _make_parser() -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(Config)
    return parser


_WRONG_TYPE = re.compile(r'Parser key "(?P<key>[\w.]+)":.*?(?: Got value: (?P<value>.*))?', re.DOTALL)
"""How jsonargparse reports a value of the wrong type."""


def _explain_error(error: Exception) -> str:
    """What jsonargparse reports, in the words of the reference."""
    text = _first_sentence(error)
    found = _WRONG_TYPE.fullmatch(text)
    if found is None:
        return text
    key, value = found["key"], found["value"]
    wanted = next((one.type_text for one in walk_settings(Config) if one.key == key), "")
    return text if value is None or not wanted else f"{key}: must be {_with_article(wanted)}, got {value}"


def _with_article(kind: str) -> str:
    article = {"integer": "an ", "number": "a ", "list": "a ", "mapping": "a "}
    return article.get(kind.split()[0], "") + kind


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(" Traceback")[0][:400]
