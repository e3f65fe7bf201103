"""YAML and dotted overrides to a `Config`, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from todm.config.sections import Config
from todm.errors import UserError
from todm.files import write_text


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a config, defaults first, then the file, then the overrides.

    Args:
        path: YAML file; None takes the defaults.
        overrides: ``--a.b=value`` or ``--a.b value`` words, as left over from a command line.

    Raises:
        UserError: a missing or broken file, an unknown key, a value of the wrong type or out of range.
    """
    words = list(overrides)
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: no such config file")
        try:
            _check_sections(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not readable as YAML ({_first_sentence(error)})") from error
        words = ["--config", os.fspath(path), *words]
    parser = _make_parser()
    try:
        config = _instantiate(parser, parser.parse_args(words))
    except Exception as error:  # jsonargparse lets yaml's and its own errors through
        raise UserError(f"{path or 'config'}: {_first_sentence(error)}") from error
    check_ranges(config)
    return config


def config_from_dict(data: dict[str, Any], source: str = "config") -> Config:
    """Inverse of `Config.to_dict`; `source` names the origin in errors."""
    _check_sections(data, source)
    parser = _make_parser()
    try:
        config = _instantiate(parser, parser.parse_object(data))
    except Exception as error:
        raise UserError(f"{source}: {_first_sentence(error)}") from error
    check_ranges(config)
    return config


def _check_sections(data: Any, source: str) -> None:
    """Refuse a value where a section belongs: jsonargparse would pass over some of those."""

    def check(value: Any, default: Mapping[str, Any], where: str) -> None:
        if not isinstance(value, Mapping):
            raise UserError(f"{source}: {where} must hold settings (key: value), not {value!r}")
        for key, item in value.items():
            if isinstance(default.get(key), Mapping):
                check(item, default[key], f"{where}.{key}" if where != "it" else str(key))

    check(data, Config().to_dict(), "it")


def check_ranges(config: Config) -> None:
    """Raise `UserError` naming the first number that nothing can be built or run with.

    What depends on more than one number (the space, the schedule) is checked by those who use it.
    """
    for key, least in _AT_LEAST.items():
        value = reduce(getattr, key.split("."), config)
        if not value >= least:  # type: ignore[operator]  # all of them are numbers
            raise UserError(f"{key}: must be at least {least}, got {value}")
    if config.model.num_heads % 4:
        raise UserError(
            f"model.num_heads: must be a multiple of 4 (pairs of heads, half of the pairs for each "
            f"direction), got {config.model.num_heads}"
        )
    if not 0.0 <= config.train.average_from <= 1.0:
        raise UserError(f"train.average_from: must be in 0 to 1, got {config.train.average_from}")
    if 0 < config.train.average_window < config.train.average_period:
        raise UserError(
            f"train.average_window: {config.train.average_window} batches hold no sample of every "
            f"{config.train.average_period}-th; make it longer or train.average_period shorter"
        )
    if config.train.dropout.policy == "standout" and config.model.ffn_gate == "none":
        raise UserError(
            "train.dropout.policy: standout samples from a gate that stays in the net; set model.ffn_gate to "
            "tied or learned as well"
        )
    if config.train.dropout.schedule.name == "validation" and config.train.valid_interval < 0:
        raise UserError(
            "train.dropout.schedule.name: validation moves at validations, and train.valid_interval -1 "
            "leaves them out; set it to 0 or more"
        )
    if not config.train.contrastive.temperature > 0.0:
        raise UserError(
            f"train.contrastive.temperature: must be above 0, got {config.train.contrastive.temperature}"
        )
    collapse = config.train.collapse
    if not collapse.factor > 1.0:
        raise UserError(f"train.collapse.factor: must be above 1, got {collapse.factor}")
    if not 0.0 < collapse.lr_scale < 1.0:
        raise UserError(f"train.collapse.lr_scale: must be between 0 and 1, got {collapse.lr_scale}")
    if not 0.0 <= config.train.loss.alignment_warmup_label_context_dropout <= 1.0:
        raise UserError(
            "train.loss.alignment_warmup_label_context_dropout: must be in 0 to 1, got "
            f"{config.train.loss.alignment_warmup_label_context_dropout}"
        )
    for key, share in (
        ("train.loss.label_context_dropout", config.train.loss.label_context_dropout),
        ("augment.tempo", config.augment.tempo),
        ("augment.freq_warp", config.augment.freq_warp),
    ):
        if not 0.0 <= share < 1.0:
            raise UserError(f"{key}: must be at least 0 and below 1, got {share}")


_AT_LEAST = {
    "model.num_layers": 1,
    "model.d_model": 1,
    "model.num_heads": 4,
    "model.head_dim": 1,
    "model.state_dim": 1,
    "model.subsampling_channels": 1,
    "model.predictor_dim": 1,
    "model.context_size": 1,
    "model.joiner_dim": 1,
    "augment.warmup_steps": 0,
    "data.max_duration": 1.0,
    "data.num_buckets": 1,
    "data.num_workers": 0,
    "data.num_jobs": 1,
    "train.num_epochs": 1,
    "train.max_steps": 0,
    "train.num_threads": 0,
    "train.log_interval": 1,
    "train.grad_accum_steps": 1,
    "train.scan_batches": 0,
    "train.valid_interval": -1,
    "train.valid_blank_penalty": 0.0,
    "train.save_interval": 0,
    "train.keep_checkpoints": 0,
    "train.average_period": 1,
    "train.average_window": 0,
    "train.calibrate_utterances": 0,
    "train.collapse.window": 0,
    "train.collapse.max_rollbacks": 0,
    "train.sandwich.num_corners": 0,
    "train.sandwich.num_random": 0,
    "train.sandwich.num_students": 0,
    "train.sandwich.student_interval": 1,
    "train.loss.warmup_steps": 0,
    "train.loss.alignment_warmup_steps": 0,
    "train.loss.alignment_warmup_range": 2,
    "train.loss.alignment_warmup_delay": 0,
    "train.loss.streaming_delay": 0,
    "train.loss.path_power": 1.0,
    "train.distill.warmup_steps": 0,
    "train.distill.weight": 0.0,
    "train.contrastive.steps": 0,
    "train.contrastive.weight": 0.0,
    "search.evaluations": 1,
    "search.population": 2,
    "search.num_utterances": 0,
    "search.workers": 1,
    "search.sizes": 1,
    "search.proxy_utterances": 0,
    "export.calibration_utterances": 1,
    "export.guard_absolute": 0.0,
    "export.guard_relative": 0.0,
}


def save_config(config: Config, path: Path) -> None:
    """Write the resolved config as YAML."""
    write_text(path, config_to_yaml(config))


def config_to_yaml(config: Config) -> str:
    """The resolved config as YAML text."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def _make_parser() -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Config)
    return parser


def _instantiate(parser: Any, namespace: Any) -> Config:
    values = parser.instantiate(namespace).as_dict()
    values.pop("config", None)
    return Config(**values)


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(" Traceback")[0][:400]
