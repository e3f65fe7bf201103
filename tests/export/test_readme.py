"""Commands, options and files in the README of export/ exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.test_project import commands_in, parse_todm, test_links_lead_somewhere

ROOT = Path(__file__).parents[2]
README = ROOT / "export" / "README.md"


def test_commands_are_real() -> None:
    script = (ROOT / "export" / "tools" / "push_and_bench.sh").read_text()
    lines = [line for line in commands_in(README) if line.startswith(("todm ", "export/", "python export/"))]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line)
        if words[0] == "todm":
            parse_todm(words[1:])
            continue
        assert (ROOT / next(word for word in words if word.startswith("export/"))).is_file(), line
        if words[0].endswith("push_and_bench.sh"):
            options = [word for word in words[1:] if word.startswith("--")]
            assert options and all(re.search(rf"^  {word} ", script, re.M) for word in options), line
            assert all((ROOT / word).is_file() for word in words[1:] if word.startswith("export/")), line
    test_links_lead_somewhere(README)
