"""Rules over several settings. The range of a single one stands on its field (`todm.config.fields`)."""

from __future__ import annotations

from pkgutil import resolve_name

from todm.config.fields import check_values
from todm.config.root import Config
from todm.errors import UserError
from todm.runtime.constants import FRAME_SHIFT_MS


def check(config: Config, *, names: bool = True) -> None:
    """Refuse a config that no run can use.

    Args:
        config: resolved settings.
        names: whether registered names are checked as well. A saved net can be used, but not trained, when
            the dropout policy of its training is no longer registered.

    Raises:
        UserError: one sentence that names the key, and how to correct it.
    """
    check_values(config, names=names)
    _check_data(config)
    _check_model(config)
    _check_train(config)
    _check_choices(config)


def _check_data(config: Config) -> None:
    data = config.data
    for key, parts in (("dev_parts", data.dev_parts), ("test_parts", data.test_parts)):
        shared = [part for part in parts if part in data.train_parts]
        if shared:
            raise UserError(
                f"data.{key}: {', '.join(shared)} is in data.train_parts too; a part that was trained on "
                "measures nothing"
            )
    if not data.min_utterance < data.max_utterance:
        raise UserError(
            f"data.min_utterance: must be below data.max_utterance ({data.max_utterance:g}), got "
            f"{data.min_utterance:g}"
        )
    if data.shar_dir.startswith("pipe:") and "{}" not in data.shar_dir:
        raise UserError(
            f"data.shar_dir: a pipe needs {{}} in place of the file name, got {data.shar_dir!r}; add {{}}"
        )


def _check_model(config: Config) -> None:
    model, space = config.model, config.space
    # Declared above this package, without torch: a new dimension must not need a line here.
    resolve_name("todm.space.dimensions:select_blocks")(space.widths)
    if model.num_heads % 4:
        raise UserError(
            f"model.num_heads: must be a multiple of 4 (pairs of heads, half of the pairs for each "
            f"direction), got {model.num_heads}"
        )
    if space.depths[-1] != model.num_layers:
        raise UserError(
            f"space.depths: the largest depth is {space.depths[-1]}, but model.num_layers is "
            f"{model.num_layers}; make them equal"
        )
    period = round(FRAME_SHIFT_MS * model.subsampling_factor)
    if "streaming" in space.modes and config.export.chunk_ms % period:
        raise UserError(
            f"export.chunk_ms: {config.export.chunk_ms} is not a multiple of {period} ms, one encoder frame"
        )


def _check_train(config: Config) -> None:
    train = config.train
    if train.distill.alpha_min > train.distill.alpha_max:
        raise UserError(
            f"train.distill.alpha_min: must be at most train.distill.alpha_max "
            f"({train.distill.alpha_max:g}), got {train.distill.alpha_min:g}"
        )
    if train.loss.lm_scale + train.loss.am_scale > 1.0:
        raise UserError(
            f"train.loss.lm_scale: it and train.loss.am_scale must not exceed 1 together, got "
            f"{train.loss.lm_scale:g} and {train.loss.am_scale:g}"
        )
    if 0 < train.average_window < train.average_period:
        raise UserError(
            f"train.average_window: {train.average_window} steps hold no sample of every "
            f"{train.average_period}-th; make it longer or train.average_period shorter"
        )


def _check_choices(config: Config) -> None:
    """Refuse choices of `train` that need or exclude another setting."""
    train = config.train
    if train.loss.path_power != 1.0 and train.loss.backend != "native":
        raise UserError(
            f"train.loss.path_power: {train.loss.backend} supports 1 only, got {train.loss.path_power:g}; "
            "set it to 1 or train.loss.backend to native"
        )
    reweighted = train.dropout.reweighted
    if train.dropout.policy == "reweighted" and reweighted.penalty == "scad" and reweighted.concavity <= 1.0:
        raise UserError(
            f"train.dropout.reweighted.concavity: must be above 1 for scad, got {reweighted.concavity:g}"
        )
    if train.dropout.policy == "standout" and config.model.ffn_gate == "none":
        raise UserError(
            "train.dropout.policy: standout samples from a gate that stays in the net; set model.ffn_gate to "
            "tied or learned as well"
        )
    if train.dropout.schedule.name == "validation" and train.valid_interval < 0:
        raise UserError(
            "train.dropout.schedule.name: validation moves at validations, and train.valid_interval -1 "
            "leaves them out; set it to 0 or more"
        )
