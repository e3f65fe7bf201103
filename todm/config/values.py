"""Conversion of plain values, as YAML and JSON hold them, to the types of settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from todm.config.fields import describe_type, show
from todm.errors import UserError


def convert(key: str, kind: Any, value: Any) -> Any:
    """Convert one value to the type of its setting. Nothing is guessed: a text is no number.

    Args:
        key: dotted name, for the message.
        kind: type of the setting: int, float, bool, str, ``Literal``, or a tuple or dict of these.
        value: plain value; a list or tuple for a tuple.

    Returns:
        the value, with tuples in place of lists and floats in place of whole numbers where `kind` has them.

    Raises:
        UserError: a value of another type.

    Example:
        >>> convert("betas", tuple[float, float], [1, 0.5])
        (1.0, 0.5)
    """
    try:
        return _convert(kind, value)
    except (TypeError, OverflowError) as error:
        hint = "; write texts in quotes" if _is_unquoted_text(kind, value) else ""
        raise UserError(
            f"{key}: must be {_with_article(describe_type(kind))}, got {show(value)}{hint}"
        ) from error


def _convert(kind: Any, value: Any) -> Any:
    """Convert `value`; TypeError or OverflowError if it does not fit."""
    if kind is float and type(value) is int:
        return float(value)
    if kind in (int, float, bool, str):
        if type(value) is kind:
            return value
    elif get_origin(kind) is Literal:
        if any(type(choice) is type(value) and choice == value for choice in get_args(kind)):
            return value
    elif get_origin(kind) is dict:
        if isinstance(value, Mapping) and all(re.fullmatch(r"\w+", str(name)) for name in value):
            return {str(name): _convert(get_args(kind)[1], item) for name, item in value.items()}
    elif isinstance(value, (list, tuple)):
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            return tuple(_convert(kinds[0], item) for item in value)
        if len(kinds) == len(value):
            return tuple(_convert(one, item) for one, item in zip(kinds, value, strict=True))
    raise TypeError


def _is_unquoted_text(kind: Any, value: Any) -> bool:
    """Whether `value` holds a number or truth value in place of a text."""
    if isinstance(value, (list, tuple)):
        return get_origin(kind) is tuple and any(_is_unquoted_text(get_args(kind)[0], item) for item in value)
    return kind is str and isinstance(value, (bool, int, float))


def _with_article(kind: str) -> str:
    article = {"integer": "an ", "number": "a ", "list": "a ", "mapping": "a "}
    return article.get(kind.split()[0], "") + kind
