"""Settings of earlier versions: their present names, and a saved config brought up to date."""

from __future__ import annotations

from collections.abc import Mapping
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
    "train.optim.lr_batches": "train.optim.lr_steps",
    "train.optim.warmup_batches": "train.optim.warmup_steps",
    "train.optim.final_lr": "train.optim.final_lr_share",
}
"""Earlier name to present name, both dotted."""

EARLIER_VALUES: Mapping[str, Any] = {
    "model.end_silence_frames": 32,  # nets saved without it have always been read with the default
    "model.ffn_gate": "none",
    "model.ffn_gate_scale": 1.0,
    "model.ffn_gate_bias": 0.0,
}
"""Values of settings in files that were saved before the settings existed; of others, the default."""


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
