"""Checkpoints: written atomically, read without running code from the file, found by step.

A checkpoint is one dict of plain values and tensors::

    format      int, `FORMAT` (added by `save_checkpoint`)
    model       state dict of the supernet
    optimizer, schedule, dropout, average, guard   state dicts of those parts
    step        batches trained so far; epoch: finished epochs; batch: batches trained in the current epoch
    config      the resolved `todm.config.Config` as a dict; vocab_size: size of the vocabulary
    origin      digest of the weights that the run started with; '' for random ones
    env         versions and machine (`todm.envinfo`)

Random states are not needed: generators are seeded for each step (`todm.train.loop`).
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
from todm.config.comparison import find_training_change, show_value
from todm.config.renamed import EARLIER_VALUES, upgrade
from todm.errors import UserError
from todm.files import atomic_file, find_leftovers
from todm.layout import CHECKPOINT_PATTERN, checkpoint_path, find_checkpoints
from todm.nn.old_weights import upgrade_names

log = logging.getLogger(__name__)

FORMAT = 1
REQUIRED_KEYS = ("model", "config", "vocab_size", "step")


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
    """Assert that the value can be loaded with ``weights_only=True``."""
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
    average = state.get("average")
    if average:
        average = {**average, **{key: upgrade_names(average[key]) for key in ("sums", "dtypes")}}
        state = {**state, "average": average}
    return {**state, "model": upgrade_names(state["model"]), "config": upgrade(state["config"])}


def _check_crc(path: Path) -> None:
    """Check the checksums of the zip file, which torch.load ignores."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def load_latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest readable checkpoint: its path and content; None if the folder has no checkpoints.

    Unreadable ones (truncated by a crash of the machine, for example) are skipped with a warning.

    Raises:
        UserError: there are checkpoints, but none can be read: starting again would overwrite them.
    """
    paths = find_checkpoints(folder)
    for path in paths:
        try:
            return path, load_checkpoint(path)
        except UserError as error:
            log.warning("skipping %s", error)
    if paths:
        raise UserError(
            f"{folder}: none of its {len(paths)} checkpoints can be read; move them away to start again"
        )
    return None


def find_checkpoint(resume: str, folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Load the checkpoint that ``train.resume`` selects: the newest readable one, none, or a path."""
    if resume == "never":
        return None
    if resume == "auto":
        return load_latest(folder)
    return Path(resume), load_checkpoint(Path(resume))


def prune_checkpoints(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest checkpoints (0 keeps all) and return the deleted ones.

    Left-overs of interrupted writes are deleted too, so call it from the writing process only.
    """
    doomed = find_checkpoints(folder)[keep:] if keep > 0 else []
    leftovers = find_leftovers(folder, CHECKPOINT_PATTERN)
    for path in [*doomed, *leftovers]:
        path.unlink(missing_ok=True)
    return doomed


class CheckpointStore:
    """The checkpoints of a run.

    Args:
        folder: where they are.
        keep: number of checkpoints to keep, newest first; 0 keeps all.
        origin: digest of the weights that the run started with; other checkpoints are not resumed.
    """

    def __init__(self, folder: Path, *, keep: int = 0, origin: str = "") -> None:
        self.folder = folder
        self.keep = keep
        self.origin = origin
        self._outdated: list[Path] = []  # checkpoints of an earlier run that this one replaces

    def find(self, resume: str) -> tuple[Path, dict[str, Any]] | None:
        """Load the checkpoint that ``train.resume`` selects; None starts a new run.

        Checkpoints of an earlier run are deleted when the new run saves its first.
        """
        found = find_checkpoint(resume, self.folder)
        if found is not None and found[1].get("origin", "") != self.origin:
            log.info("%s was started from other weights; starting again", found[0])
            found = None
        if found is None:
            self._outdated = find_checkpoints(self.folder)
        return found

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint and delete those that are not kept."""
        path = checkpoint_path(self.folder, state["step"])
        save_checkpoint(path, {**state, "origin": self.origin})
        for old in self._outdated:
            if old != path:
                old.unlink(missing_ok=True)
        self._outdated = []
        prune_checkpoints(self.folder, self.keep)

    def find_until(self, step: int) -> Path | None:
        """Find this run's newest checkpoint that has at most `step` steps."""
        last = checkpoint_path(self.folder, step)
        return next((path for path in self._own() if path <= last), None)

    def remove_after(self, step: int) -> None:
        """Delete this run's checkpoints that have more than `step` steps."""
        last = checkpoint_path(self.folder, step)
        for path in self._own():
            if path > last:
                path.unlink(missing_ok=True)

    def _own(self) -> list[Path]:
        return [path for path in find_checkpoints(self.folder) if path not in self._outdated]


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
        config: settings of the current run.
        saved_vocab_size: size of the checkpoint's vocabulary.
        vocab_size: size of the current vocabulary; without both numbers, the configured sizes
            (``data.vocab_size``) are compared.
        source: the checkpoint, for the message.

    Raises:
        UserError: with every key that differs and both values.
    """
    mine = config.to_dict()
    pairs = [
        (name, saved_config.get(part, {}).get(key, EARLIER_VALUES.get(name, "absent")), value)
        for part in ("model", "space")
        for key, value in mine[part].items()
        for name in (f"{part}.{key}",)
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


def check_same_settings(saved_config: Mapping[str, Any], config: Config, exp_dir: Path) -> None:
    """Refuse settings that a training without any step left would record and not read.

    Args:
        saved_config: the newest checkpoint's ``config``.
        config: settings of the current run.
        exp_dir: run folder, for the message.

    Raises:
        UserError: with the first setting that differs and both values.
    """
    change = find_training_change(saved_config, config)
    if change is not None:
        key, old, new = change
        named = config.train.resume != "auto"  # "never" loads no checkpoint
        place = f"of {config.train.resume}" if named else f"in {exp_dir}"
        other = "an earlier checkpoint continues with it" if named else "another --exp-dir keeps both"
        raise UserError(
            f"{key} was {show_value(old)}, is {show_value(new)}, but the training {place} is finished "
            f"and would not read it; --train.resume never trains anew, {other}"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
