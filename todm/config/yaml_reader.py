"""The one reader of YAML files: plain values, each key once, scalars as in YAML 1.2.

YAML 1.1 reads ``010`` as 8, ``1:30`` as 90, ``on`` as true, ``1e-3`` as text and ``2026-01-02`` as a date.
Here numbers are decimal, ``true`` and ``false`` are the only truth values, and everything else is text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from todm.errors import UserError

MAX_DEPTH = 50
"""Deepest nesting of a file that is read."""

_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
)
"""Core schema of YAML 1.2 (section 10.3.2) and merge keys: tag, pattern, first characters."""
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """`yaml.SafeLoader` with the scalars of YAML 1.2, which refuses a key that is written twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; refuse deep nesting before Python's stack ends."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a mapping whose keys are texts, each of which occurs once."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key must be a text", key.start_mark)
            if key.value in lines:
                problem = f"{key.value!r} is there twice, first in line {lines[key.value]}; remove one"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        self.flatten_mapping(node)
        node.value = [(yaml.ScalarNode(_TEXT, key.value, key.start_mark), value) for key, value in node.value]
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: Any) -> int:
    return int(loader.construct_scalar(node))


def _construct_float(loader: _Loader, node: Any) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.yaml_implicit_resolvers[""] = _Loader.yaml_implicit_resolvers.pop("\0")
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read_yaml(path: Path) -> Any:
    """Read one document.

    Args:
        path: a file in UTF-8.

    Returns:
        nested dict, list, str, int, float, bool and None; None for a file without a value.

    Raises:
        UserError: no such file, or one that is not readable as YAML; names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 (byte {error.start})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Parse one document; `source` names it in errors. See `read_yaml`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}:" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        if problem.startswith(("but ", "second ")):  # half a sentence
            problem = f"{error.context}, {problem}"
        if "'\\t'" in problem:
            problem += "; indent with spaces"
        raise UserError(f"{source}:{line} not readable as YAML: {problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: not readable as YAML: {' '.join(str(error).split())[:300]}") from error
