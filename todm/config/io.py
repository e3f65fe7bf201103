"""YAML and dotted overrides to a `Config`, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from todm.config.check import check
from todm.config.fields import walk_settings
from todm.config.names import check_key, sections
from todm.config.renamed import upgrade
from todm.config.root import Config
from todm.errors import UserError
from todm.files import write_text


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
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not readable as YAML ({_first_sentence(error)})") from error
    _check_names(overrides)
    return _parse({} if data is None and path is None else data, overrides, str(path or "config"), saved)


def config_from_dict(data: Mapping[str, Any], source: str = "config", *, saved: bool = False) -> Config:
    """Inverse of `Config.to_dict`; `source` names the origin in errors, `saved` as in `load_config`."""
    return _parse(data, (), source, saved)


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
    parser = _make_parser()
    try:
        namespace = parser.parse_object(dict(data))
        if overrides:
            namespace = parser.parse_args(list(overrides), namespace=namespace)
        config = Config(**parser.instantiate(namespace).as_dict())
    except Exception as error:  # jsonargparse lets yaml's and its own errors through
        raise UserError(f"{source}: {_explain_error(error)}") from error
    check(config)
    return config


def _check_sections(data: Any, source: str) -> None:
    """Refuse unknown and renamed keys, and a value in place of a section."""
    if not isinstance(data, Mapping):
        raise UserError(f"{source}: it must hold settings (key: value), not {data!r}")
    for key, value in _walk(data):
        if key in sections():
            if not isinstance(value, Mapping):
                raise UserError(f"{source}: {key} must hold settings (key: value), not {value!r}")
        else:
            check_key(key, source)


def _walk(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; sections come before their settings."""
    for name, value in data.items():
        key = f"{prefix}{name}"
        yield key, value
        if key in sections() and isinstance(value, Mapping):
            yield from _walk(value, f"{key}.")


def _check_names(overrides: Sequence[str]) -> None:
    for word in overrides:
        if word.startswith("--"):
            check_key(word[2:].split("=", 1)[0], "command line")


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
    if key in sections():
        return f"{key}: is a section; give one of its settings, as in 'todm config explain {key}'"
    wanted = next((one.type_text for one in walk_settings(Config) if one.key == key), "")
    return text if value is None or not wanted else f"{key}: must be {_with_article(wanted)}, got {value}"


def _with_article(kind: str) -> str:
    article = {"integer": "an ", "number": "a ", "list": "a ", "mapping": "a "}
    return article.get(kind.split()[0], "") + kind


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(" Traceback")[0][:400]
