"""Settings of earlier versions: their present names, and a saved config brought up to date."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

RENAMED: Mapping[str, str] = {
    "augment.join_prob": "augment.chain_prob",
    "augment.join_pause_frames": "augment.chain_pause_frames",
    "data.pieces": "data.token_type",
    "data.short_first": "data.sortagrad",
    "space.ffn_dims": "space.widths.ffn_dim",
    "train.micro_batches": "train.grad_accum_steps",
    "train.loss.diagonal_steps": "train.loss.alignment_warmup_steps",
    "train.loss.diagonal_range": "train.loss.alignment_warmup_range",
    "train.loss.diagonal_delay": "train.loss.alignment_warmup_delay",
    "train.loss.diagonal_hidden_contexts": "train.loss.alignment_warmup_label_context_dropout",
    "train.loss.hidden_contexts": "train.loss.label_context_dropout",
    "train.distill.beta": "train.distill.ratio_clip",
}
"""Earlier name to present name, both dotted."""


BEFORE: Mapping[str, Any] = {}
"""Value that earlier versions used where a setting did not exist yet, if it is not the default."""


def upgrade_flat(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Bring settings by dotted key up to date.

    Args:
        values: by the names of the version that recorded them.
        known: present keys; a new name below one of them is a key of a mapping.
    """
    result = dict(values)
    for old, new in RENAMED.items():
        if old in result:
            value = result.pop(old)
            mapping, _, name = new.rpartition(".")
            if new in known:
                result.setdefault(new, value)
            else:
                result[mapping] = {**result.get(mapping, {}), name: value}
    return result


def upgrade(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config saved by an earlier version, with the present names of its settings."""
    result = _copy(data)
    for old, new in RENAMED.items():
        *path, name = old.split(".")
        section: Any = result
        for key in path:
            section = section.get(key) if isinstance(section, dict) else None
        if not isinstance(section, dict) or name not in section:
            continue
        value = section.pop(name)
        *path, name = new.split(".")
        target = result
        for key in path:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                break
        else:
            target.setdefault(name, value)
    return result


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value
