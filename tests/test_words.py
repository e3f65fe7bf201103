"""Documentation, docstrings, comments and messages contain no pattern that is surely bad English or jargon.

Only patterns without a legitimate use are listed, so that a match is always a mistake.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Pattern and what to write in its place.
PATTERNS = (
    (r"^\s+\w[\w, ]*: of ", "a noun phrase: 'plan: dropout rates of the pass'"),
    (r"\bgo(?:es|ing)? on (?:with|at|where|as|from)\b", "continues, resumes"),
    (r"\bgoes on\b", "continues, resumes"),
    (r"\bis said to\b", "the fact itself"),
    (r"\b(?:is|are|was|were) told\b", "is given, receives"),
    (r"\bwhat it (?:is|was) told\b", "its input"),
    (r"\bbeside (?:it|them|each other)\b", "next to, with, in addition to"),
    (r"\bwhoever\b", "the caller, a user"),
    (r"\bmend(?:s|ed)?\b", "fix, repair"),
    (r"\bthere is nothing to\b", "the fact itself"),
    (
        r"\b(?:net|nets|model|stream|streams|validations?|torch|encoder|GPU) (?:hears?|heard)\b",
        "receives, uses",
    ),
    (
        r"\b(?:file|table|card|report|config|log|line|flag|option|setting)s? (?:says?|tells?)\b",
        "states, shows",
    ),
    (r"\bis lost on\b", "the fact itself"),
)
FOLDERS = ("docs",)


def checked_files() -> list[Path]:
    """Text files that the patterns apply to."""
    suffixes = (".py", ".md", ".yaml", ".sh")
    inside = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    return [path for path in (*sorted(ROOT.glob("*.md")), *inside) if path.suffix in suffixes]


@pytest.mark.parametrize(("pattern", "instead"), PATTERNS, ids=[pattern for pattern, _ in PATTERNS])
def test_pattern_is_absent(pattern: str, instead: str) -> None:
    find = re.compile(pattern, re.M | re.I)
    found = [
        f"{path.relative_to(ROOT)}: {hit[0].strip()!r}"
        for path in checked_files()
        for hit in find.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == [], f"write instead: {instead}"
