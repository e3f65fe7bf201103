"""YAML and dotted overrides to a `Config`, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from todm.config import Config
from todm.errors import UserError


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a config, defaults first, then the file, then the overrides.

    Args:
        path: YAML file; None takes the defaults.
        overrides: ``--a.b=value`` or ``--a.b value`` words, as left over from a command line.

    Raises:
        UserError: a missing or broken file, an unknown key, or a value of the wrong type.
    """
    words = list(overrides)
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: no such config file")
        words = ["--config", os.fspath(path), *words]
    parser = _make_parser()
    try:
        namespace = parser.parse_args(words)
        return _instantiate(parser, namespace)
    except Exception as error:  # jsonargparse lets yaml's and its own errors through
        raise UserError(f"{path or 'config'}: {_first_sentence(error)}") from error


def config_from_dict(data: dict[str, Any], source: str = "config") -> Config:
    """Inverse of `Config.to_dict`; `source` names the origin in errors."""
    parser = _make_parser()
    try:
        return _instantiate(parser, parser.parse_object(data))
    except Exception as error:
        raise UserError(f"{source}: {_first_sentence(error)}") from error


def save_config(config: Config, path: Path) -> None:
    """Write the resolved config as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config_to_yaml(config))


def config_to_yaml(config: Config) -> str:
    """The resolved config as YAML text."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def _make_parser() -> Any:
    from jsonargparse import ActionConfigFile, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_class_arguments(Config)
    return parser


def _instantiate(parser: Any, namespace: Any) -> Config:
    values = parser.instantiate_classes(namespace).as_dict()
    values.pop("config", None)
    return Config(**values)


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(" Traceback")[0][:400]
