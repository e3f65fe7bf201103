"""Settings of a run, with single values replaced."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from todm.config import Config, config_from_dict, load_config
from todm.errors import UserError


def replace_settings(config: Config, section: str, values: Mapping[str, Any]) -> Config:
    """Return `config` with some settings of one section replaced and checked.

    Args:
        config: resolved config.
        section: name of a top-level section, for example ``search``.
        values: settings by their name in that section; None leaves a setting as it is.

    Raises:
        UserError: an unknown setting or a value out of its range.
    """
    known = {field.name for field in fields(getattr(config, section))}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(known))}"
            raise UserError(f"{section}.{name}: no such setting; {hint}")
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return config
    changed = replace(config, **{section: replace(getattr(config, section), **given)})
    return config_from_dict(changed.to_dict(), source=section)


def read_overrides(path: Path, section: str, words: Sequence[str]) -> dict[str, Any]:
    """Parse dotted overrides of one section, given as words of a command line.

    Args:
        path: config file that they override.
        section: the only section that may be overridden.
        words: ``--export.opset 18`` or ``--export.opset=18``.

    Raises:
        UserError: an unknown word, a setting of another section, or an impossible value.
    """
    keys = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    for key in keys:
        if not key.startswith(f"{section}."):
            raise UserError(
                f"--{key}: not an option here; of the settings only those of {section} can be changed now"
            )
    if not words:
        return {}
    values = getattr(load_config(path, words, saved=True), section)
    names = {key.split(".")[1] for key in keys}
    return {name: getattr(values, name) for name in sorted(names)}
