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
    (r"\b(?:goes|went) on\b|\bgo on (?:with|at|where|as|from)\b", "continues, resumes"),
    (r"\b(?:hears?|heard)\b", "receives, uses, consumed"),
    (r"\b(?:says?|said)\b", "states, emits, prints"),
    (r"\btold\b", "is given, receives"),
    (r"(?<!--)\bbeside\b", "next to, with, in addition to"),
    (r"\b(?:whoever|nobody)\b", "the caller, a user, no one"),
    (r"\bmend(?:s|ed)?\b", "fix, repair, correct"),
    (r"\b\w*(?:token|quant)is[aei]\w*", "American spelling: tokenizer, quantize"),
    (r"\bis lost on\b", "the fact itself"),
    (r"\bstands? (?:in|at|for) (?:the|its)\b", "is in, means"),
)
FOLDERS = ("docs", "export", "recipes", "todm")


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
