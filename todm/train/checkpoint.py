"""Checkpoints that are whole or absent: written atomically, read safely, the newest readable one found.

A checkpoint is one dict of plain values and tensors, readable without running code from the file::

    format      int, `FORMAT` (added by `save_checkpoint`)
    model       state dict of the supernet
    optimizer, schedule, average   state dicts of those parts
    step        batches trained so far; epoch: epochs finished; batch: batches done in the present one
    config      the resolved `todm.config.Config` as a dict; vocab_size: pieces of the tokeniser
    env         versions and machine (`todm.envinfo`)
    metrics     last validation, plain numbers

The loop adds what else it needs to resume exactly (random states, the sampler's place).
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from todm.config import Config
from todm.config.renamed import upgrade
from todm.errors import UserError
from todm.files import atomic_file, find_leftovers
from todm.layout import checkpoint_step
from todm.nn.old_weights import upgrade_names

FORMAT = 1
REQUIRED_KEYS = ("model", "config", "vocab_size", "step")
# Settings that a checkpoint of before them does not name, and what it was trained with.
_ADDED = {"ffn_gate": "none", "ffn_gate_scale": 1.0, "ffn_gate_bias": 0.0}


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` atomically, `format` added.

    Args:
        path: the file; its folder is made when missing.
        state: see the module's text; tensors and plain Python values only.

    Raises:
        UserError: the disk is full or the folder cannot be written; an older checkpoint stays.
    """
    assert all(key in state for key in REQUIRED_KEYS), f"checkpoint lacks one of {REQUIRED_KEYS}"
    _assert_plain(state, "checkpoint")
    whole = {"format": FORMAT, **state}
    with atomic_file(path) as file:
        torch.save(whole, file)


def _assert_plain(value: Any, where: str) -> None:
    """What is saved here must be loadable with ``weights_only=True``; better to learn it now."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            assert isinstance(key, (str, int)), f"{where}: key {key!r}"
            _assert_plain(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _assert_plain(item, where)
    else:
        plain = value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)
        assert plain, f"{where}: {type(value).__name__} cannot be loaded safely"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running code from it.

    Raises:
        UserError: missing, truncated or corrupt, no checkpoint of todm, or of a newer format.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; give the path of a step-*.pt file")
    try:
        _check_crc(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises almost anything: zip, pickle, EOF, runtime errors
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: not a readable checkpoint, truncated or corrupt ({reason}); take an older one"
        ) from error
    if not isinstance(state, dict) or any(key not in state for key in ("format", *REQUIRED_KEYS)):
        raise UserError(f"{path}: not a checkpoint of todm (it lacks format, model, config or step)")
    if state["format"] > FORMAT:
        raise UserError(
            f"{path}: checkpoint format {state['format']} is newer than {FORMAT}; use a newer version of todm"
        )
    return {**state, "model": upgrade_names(state["model"]), "config": upgrade(state["config"])}


def _check_crc(path: Path) -> None:
    """torch.load does not look at the checksums that its own zip file holds."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def list_checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints, newest (most steps) first, readable or not."""
    if not folder.is_dir():
        return []
    found = [(step, path) for path in folder.iterdir() if (step := checkpoint_step(path)) is not None]
    return [path for _, path in sorted(found, reverse=True)]


def load_latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read and its content; None when the folder holds none at all.

    Unreadable ones (cut off by a crash of the machine, say) are passed over with a warning.

    Raises:
        UserError: there are checkpoints, but none can be read: starting anew would overwrite them.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            return path, load_checkpoint(path)
        except UserError as error:
            logging.getLogger(__name__).warning("passing over %s", error)
    if paths:
        raise UserError(
            f"{folder}: none of its {len(paths)} checkpoints can be read; move them away to start anew"
        )
    return None


def find_checkpoint(resume: str, folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """What ``train.resume`` names: the newest readable checkpoint, none, or a path."""
    if resume == "never":
        return None
    if resume == "auto":
        return load_latest(folder)
    return Path(resume), load_checkpoint(Path(resume))


def latest_checkpoint(folder: Path) -> Path | None:
    """Path of the newest readable checkpoint; see `load_latest`."""
    found = load_latest(folder)
    return found[0] if found else None


def prune_checkpoints(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest checkpoints (0 keeps all); returns what was deleted.

    Left-overs of interrupted writes go too, so call it from the writing process only.
    """
    doomed = list_checkpoints(folder)[keep:] if keep > 0 else []
    leftovers = find_leftovers(folder, "step-*.pt")
    for path in [*doomed, *leftovers]:
        path.unlink(missing_ok=True)
    return doomed


def check_same_architecture(
    saved_config: Mapping[str, Any],
    config: Config,
    *,
    saved_vocab_size: int | None = None,
    vocab_size: int | None = None,
    source: Path | None = None,
) -> None:
    """Refuse a checkpoint whose model, space or vocabulary differs from what `config` describes.

    Args:
        saved_config: the checkpoint's ``config``.
        config: of the present run.
        saved_vocab_size: pieces of the checkpoint's tokeniser.
        vocab_size: pieces of the present tokeniser; without both numbers, the wished sizes in the two
            configs (``data.vocab_size``) are compared.
        source: the checkpoint, for the message.

    Raises:
        UserError: with every key that differs and both values.
    """
    mine = config.to_dict()
    pairs = [
        (f"{part}.{key}", saved_config.get(part, {}).get(key, _ADDED.get(key, "absent")), value)
        for part in ("model", "space")
        for key, value in mine[part].items()
    ]
    pairs += [
        (f"{part}.{key}", value, "absent")
        for part in ("model", "space")
        for key, value in saved_config.get(part, {}).items()
        if key not in mine[part]
    ]
    if saved_vocab_size is not None and vocab_size is not None:
        pairs.append(("vocabulary size", saved_vocab_size, vocab_size))
    else:
        saved_data = saved_config.get("data", {})
        pairs.append(("data.vocab_size", saved_data.get("vocab_size", "absent"), mine["data"]["vocab_size"]))
    differing = [
        f"{key} {_plain(old)} there, {_plain(new)} here" for key, old, new in pairs if _plain(old) != new
    ]
    if differing:
        raise UserError(
            f"{source or 'checkpoint'}: its architecture differs from the config ({'; '.join(differing)}); "
            "use the run's own config, or another run folder"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
