"""Configs as flat settings, what differs between two of them, and what that means for a trained net."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from todm.config.renamed import EARLIER_VALUES, upgrade
from todm.config.root import Config

NO_EFFECT = (
    "data.num_jobs",
    "data.num_workers",
    "search.workers",
    "train.device",
    "train.keep_checkpoints",
    "train.log_interval",
    "train.num_threads",
    "train.resume",
    "train.save_interval",
    "train.scan_batches",
)
"""Settings that affect how work is done, not its result."""
AFTER_TRAINING = ("data.test_parts", "export", "search", "train.calibrate_utterances")
"""Settings and sections that only steps after the training read."""
RUN_LENGTH = ("train.num_epochs", "train.max_steps")
"""Settings that a finished training takes when they make it longer."""


def is_named(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of `patterns` or in a section of that name.

    Example:
        >>> is_named("train.optim.lr", ("train",)), is_named("train.optim.lr", ("train.opt",))
        (True, False)
    """
    return any(key == pattern or key.startswith(f"{pattern}.") for pattern in patterns)


def flatten_config(config: Config) -> dict[str, Any]:
    """Return all settings by dotted key, as plain JSON values; mappings are values."""
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        for field in fields(value):
            name, item = f"{prefix}{field.name}", getattr(value, field.name)
            if is_dataclass(item):
                add(f"{name}.", item)
            else:
                flat[name] = json.loads(json.dumps(item, default=dict))

    add("", config)
    return flat


def flatten_saved(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a saved config by dotted key, under their present names.

    Args:
        data: nested sections, perhaps written by an earlier version and incomplete; settings that no longer
            exist are left out.

    Example:
        >>> flatten_saved({"train": {"distill": {"beta": 3.0}, "no_such": 1}})
        {'train.distill.ratio_clip': 3.0}
    """
    current, found = upgrade(data), {}
    for key in _defaults():
        value: Any = current
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            found[key] = json.loads(json.dumps(value, default=dict))
    return found


def is_setting(key: str) -> bool:
    """Whether there is a setting of this dotted key."""
    return key in _defaults()


def value_before(key: str) -> Any:
    """Return the value in effect before a setting was added; None if there is no such setting."""
    return EARLIER_VALUES.get(key, _defaults().get(key))


def find_training_change(saved: Mapping[str, Any], config: Config) -> tuple[str, Any, Any] | None:
    """Find the first setting that a finished training would not take over from `config`.

    Args:
        saved: nested settings of the finished training, perhaps written by an earlier version.
        config: the present settings.

    Returns:
        Key, saved value and present value; None when they differ at most in settings that do not affect the
        trained net (`NO_EFFECT`, `AFTER_TRAINING`) or make the training longer (`RUN_LENGTH`).
    """
    before = flatten_saved(saved)
    for key, value in flatten_config(config).items():
        old = before.get(key, value_before(key))
        if old != value and not is_named(key, (*NO_EFFECT, *AFTER_TRAINING, *RUN_LENGTH)):
            return key, old, value
    return None


def show_value(value: Any) -> str:
    """Return a value as it is shown in messages."""
    return "not set" if value is None else value if isinstance(value, str) and value else json.dumps(value)


@cache
def _defaults() -> Mapping[str, Any]:
    return flatten_config(Config())
