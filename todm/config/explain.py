"""The reference of all settings, as text for a terminal and as a Markdown page."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from todm.config.fields import Described, walk_sections, walk_settings
from todm.config.names import check_key, sections
from todm.config.root import Config

_WIDTH = 100


def explain(key: str = "") -> str:
    """Type, range, default and meaning of one setting, of those of a section, or of all.

    Args:
        key: dotted name of a setting or section; empty for all. A word without dots that names neither finds
            all settings with it in their name.

    Raises:
        UserError: there is no such setting or section.
    """
    if key and "." not in key and key not in sections():
        found = [_as_text(one) for one in walk_settings(Config) if key in one.key]
        if found:
            return "\n".join(found)
    if key:
        check_key(key, "config explain")
    if key and not any(f"{one.key}.".startswith(f"{key}.") for one in walk_settings(Config)):
        key = key.rpartition(".")[0]  # the mapping that holds an entry
    docs = {name: inspect.getdoc(section) or "" for name, section in walk_sections(Config) if name}
    texts = []
    for one in walk_settings(Config):
        if key and not f"{one.key}.".startswith(f"{key}."):
            continue
        section = one.key.rpartition(".")[0]
        if section in docs and f"{section}.".startswith(f"{key}." if key else ""):
            texts.append("\n".join([f"{section}: section", *map(_fill, docs.pop(section).split("\n\n"))]))
        texts.append(_as_text(one))
    return "\n".join(texts)


def reference_page() -> str:
    """Write the page ``docs/reference/configuration.md``."""
    lines = [
        "# Configuration reference",
        "",
        "Written by `todm config explain --markdown`. A YAML file holds what differs from the defaults:",
        "",
        "```yaml",
        "data:",
        "  train_parts: [train-clean-100]",
        "train:",
        "  optim:",
        "    lr: 0.04",
        "```",
        "",
        "Every command with `--conf` takes any setting by its dotted name too, as `--train.optim.lr 0.04` or",
        "`--train.optim.lr=0.04`. A list is written as in YAML and quoted for the shell: `--space.depths "
        "'[4, 6]'`,",
        "`--space.widths.ffn_dim '[256, 512]'`, `--data.dev_parts '[dev-clean, dev-other]'`.",
    ]
    for name, section in walk_sections(Config):
        own = [one for one in walk_settings(Config) if one.key.rpartition(".")[0] == name]
        if not own:
            continue
        lines += ["", f"## {name}", "", inspect.getdoc(section) or "", ""]
        lines += ["| setting | type | range | default | meaning |", "|---|---|---|---|---|"]
        for one in own:
            cells = [f"`{one.key}`", one.type_text, _range(one), f"`{_show(one.default)}`", one.setting.doc]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _as_text(one: Described) -> str:
    facts = [one.type_text, *filter(None, [_range(one)]), f"default {_show(one.default)}"]
    return f"{one.key}: {'; '.join(facts)}\n{_fill(one.setting.doc)}"


def _fill(text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )


def _range(one: Described) -> str:
    rules = one.setting
    return "; ".join(filter(None, [rules.range_text, rules.list_text]))


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_show, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_show(item)}" for name, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value) or '""'
