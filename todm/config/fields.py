"""One definition per setting: type, default, range and meaning stand together on the dataclass field.

    lr: float = setting(0.045, "Peak learning rate.", gt=0.0, le=10.0)

`check_values` reads the ranges, `todm config explain` and the reference page read the texts.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from pkgutil import resolve_name
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from todm.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Meaning and range of a setting.

    Args:
        doc: what it does, with its unit; sentences.
        ge: least value; for a list, of each item.
        gt: value below the least one.
        le: largest value.
        lt: value above the largest one.
        min_items: least number of items of a list.
        ascending: whether the items of a list must increase.
        unique: whether the items of a list must differ.
        pair: whether a list of two is a range, its first item at most its second.
        choices: names that are allowed without a look into `registry`.
        registry: mapping whose keys are the allowed values, as ``package.module:NAME``; imported only to
            check a value that is not among `choices`.
        parser: function that raises `UserError` for a text that is not allowed, as ``package.module:NAME``;
            imported only to check a value other than the default.
        pattern: regular expression that every text must match as a whole, and its meaning in words.
    """

    doc: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_items: int = 0
    ascending: bool = False
    unique: bool = False
    pair: bool = False
    choices: tuple[str, ...] = ()
    registry: str = ""
    parser: str = ""
    pattern: tuple[str, str] | None = None

    @property
    def range_text(self) -> str:
        """The range in words, such as ``at least 0 and below 1``; empty without one."""
        low, high = self.ge if self.gt is None else self.gt, self.le if self.lt is None else self.lt
        if low is not None and high is not None and self.gt is None and self.lt is None:
            return f"in {show_number(low)} to {show_number(high)}"
        parts = []
        if low is not None:
            parts.append(f"{'at least' if self.gt is None else 'above'} {show_number(low)}")
        if high is not None:
            parts.append(f"{'at most' if self.lt is None else 'below'} {show_number(high)}")
        return " and ".join(parts)

    @property
    def list_text(self) -> str:
        """What a list must be like, in words; empty without a rule."""
        parts = []
        if self.min_items:
            parts.append(f"at least {self.min_items} item" + "s" * (self.min_items > 1))
        if self.ascending:
            parts.append("ascending")
        elif self.unique:
            parts.append("no item twice")
        if self.pair:
            parts.append("the first at most the second")
        return ", ".join(parts)

    def allows(self, number: float) -> bool:
        """Whether `number` is finite and in range."""
        return (
            (isinstance(number, int) or math.isfinite(number))
            and (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )


def setting(default: T, doc: str, **rules: Any) -> T:
    """A dataclass field with its `Setting`.

    Args:
        default: immutable default value of the field.
        doc: see `Setting`.
        rules: the other fields of `Setting`.
    """
    value: T = field(default=default, metadata={"setting": Setting(doc=doc, **rules)})
    return value


def made_setting(default: Any, doc: str, **rules: Any) -> Any:
    """`setting` whose default is made anew by the call of `default`."""
    return field(default_factory=default, metadata={"setting": Setting(doc=doc, **rules)})


@dataclass(frozen=True, kw_only=True)
class Described:
    """A setting with its place.

    Args:
        key: dotted name, such as ``train.optim.lr``.
        kind: its type.
        default: default value of the field.
        setting: meaning and range.
    """

    key: str
    kind: Any
    default: Any
    setting: Setting

    @property
    def type_text(self) -> str:
        """The type in words."""
        return describe_type(self.kind)


def describe_type(kind: Any) -> str:
    """The type of a setting in words, such as ``list of integers``."""
    names = {int: "integer", float: "number", bool: "true or false", str: "text"}
    if kind in names:
        return names[kind]
    if get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in get_args(kind))
    items = get_args(kind)
    if get_origin(kind) is dict:
        return f"mapping of names to {describe_type(items[1]).replace('list of', 'lists of', 1)}"
    plural = {int: "integers", float: "numbers", str: "texts"}.get(items[0], describe_type(items[0]))
    return f"list of {plural}" if items[-1] is Ellipsis else f"list of {len(items)} {plural}"


def walk_sections(section: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Dotted names and classes of `section` and the sections in it, outermost first."""
    yield prefix.rstrip("."), section
    hints = get_type_hints(section)
    for item in fields(section):
        if is_dataclass(hints[item.name]):
            yield from walk_sections(hints[item.name], f"{prefix}{item.name}.")


def walk_settings(section: type, prefix: str = "") -> Iterator[Described]:
    """All settings of `section` and the sections in it, in order of definition."""
    hints = get_type_hints(section)
    example = section()
    for item in fields(section):
        kind, key = hints[item.name], f"{prefix}{item.name}"
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from walk_settings(kind, f"{key}.")
        else:
            rules = item.metadata["setting"]
            yield Described(key=key, kind=kind, default=getattr(example, item.name), setting=rules)


def check_values(config: Any, *, names: bool = True) -> None:
    """Check every value against the range that its field states.

    Args:
        config: a section with all its sections.
        names: whether registered names are checked as well.

    Raises:
        UserError: names the first setting that is out of range, the range and the value.
    """
    for described in walk_settings(type(config)):
        value = config
        for name in described.key.split("."):
            value = getattr(value, name)
        check_value(described.key, described.setting, value)
        if names and value != described.default:
            _check_names(described, value)


def _check_names(described: Described, value: Any) -> None:
    """Check names that are registered, and texts that are parsed, above this package."""
    rules, key = described.setting, described.key
    if rules.parser:
        parse = resolve_name(rules.parser)
        for item in value:
            try:
                parse(item)
            except UserError as error:
                raise UserError(f"{key}: {error}") from error
    if rules.registry and value not in rules.choices:
        registry = resolve_name(rules.registry)
        if value not in registry:
            close = difflib.get_close_matches(value, registry, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(registry)}"
            raise UserError(f"{key}: there is no {value!r}; {hint}")


def check_value(key: str, rules: Setting, value: Any) -> None:
    """Check one value; see `check_values`."""
    if value is None:
        raise UserError(f"{key}: has no value; give it one")
    if isinstance(value, dict):
        for name, item in value.items():
            check_value(f"{key}.{name}", rules, item)
        return
    if isinstance(value, (tuple, list)):
        _check_list(key, rules, tuple(value))
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(item, (int, float)) and not isinstance(item, bool) and not rules.allows(item):
            raise UserError(f"{key}: must be {rules.range_text or 'finite'}, got {show(value)}")
        if rules.pattern and isinstance(item, str) and not re.fullmatch(rules.pattern[0], item):
            raise UserError(f"{key}: must be {rules.pattern[1]}, got {show(item)}")
    if isinstance(value, (tuple, list)):
        _check_order(key, rules, tuple(value))


def _check_list(key: str, rules: Setting, value: tuple[Any, ...]) -> None:
    if len(value) < rules.min_items:
        plural = "s" * (rules.min_items > 1)
        raise UserError(f"{key}: needs at least {rules.min_items} item{plural}, got {show(value)}")
    if any(isinstance(item, str) and not item.strip() for item in value):
        raise UserError(f"{key}: must not contain an empty text, got {show(value)}")


def _check_order(key: str, rules: Setting, value: tuple[Any, ...]) -> None:
    if rules.ascending and any(not one < other for one, other in pairwise(value)):
        raise UserError(f"{key}: must be in ascending order without repetition, got {show(value)}")
    if rules.unique and len(set(value)) != len(value):
        raise UserError(f"{key}: must not name an item twice, got {show(value)}")
    if rules.pair and not value[0] <= value[1]:
        raise UserError(f"{key}: the first value must be at most the second, got {show(value)}")


def show(value: Any) -> str:
    """Write a value as in YAML, shortened to 100 characters; texts that need quotes have them.

    Example:
        >>> show((1, True, None, 1e9, "on", "3", ""))
        "[1, true, null, 1e+09, on, '3', '']"
    """
    text = _show(value, depth=0)
    return text if len(text) <= 100 else f"{text[:97]}..."


def show_number(value: float) -> str:
    """Write a number exactly, in six digits where these suffice: ``1e+09``, ``131072``."""
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    short = f"{value:.6g}"
    return short if float(short) == value else str(value)


def _show(value: Any, depth: int) -> str:
    if isinstance(value, (Mapping, tuple, list)) and depth > 2:
        return "..."  # an alias can make a list contain itself
    if isinstance(value, Mapping):
        items = (f"{_show(name, depth + 1)}: {_show(item, depth + 1)}" for name, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_show(item, depth + 1) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return show_number(value) + (".0" if value.is_integer() and abs(value) < 1e6 else "")
    if isinstance(value, int):
        return show_number(value)
    return value if isinstance(value, str) and _is_plain(value) else repr(value)


def _is_plain(text: str) -> bool:
    """Whether YAML reads `text` as a text without quotes."""
    try:
        float(text)
    except ValueError:
        return text.lower() not in ("null", "true", "false") and bool(re.fullmatch(_PLAIN, text))
    return False


_PLAIN = r"[\w./+<][\w ./:%<=+-]*"
