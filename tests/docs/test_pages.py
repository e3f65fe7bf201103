"""The pages in docs/: links lead to files and headings, tables are regular, Python examples run."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import todm
from todm.config.renamed import RENAMED

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "recipes").rglob("*.md"),
        *(ROOT / "export").rglob("*.md"),
    ]
)
HOW_TO = [ROOT / "docs" / "how-to" / f"add-a-{name}.md" for name in ("dropout-policy", "search-objective")]


def without_code(text: str) -> str:
    """Text outside fenced code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)


def anchors_of(path: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_code(path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", without_code(path.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name.replace("\\", "") if name else path
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rows_of_a_table_have_equally_many_cells(path: Path) -> None:
    columns = 0
    for line in without_code(path.read_text(encoding="utf-8")).splitlines():
        row = line.strip()
        cells = re.sub(r"\\\||`[^`]*`", "", row).count("|") if row.startswith("|") else 0
        assert not (columns and cells) or cells == columns, row
        columns = cells


@pytest.mark.parametrize("path", HOW_TO, ids=lambda path: path.name)
def test_python_examples_run(path: Path) -> None:
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```", path.read_text(encoding="utf-8"), re.S | re.M)
    namespace: dict[str, object] = {"__name__": path.stem}
    for _, code in blocks:
        exec(compile(textwrap.dedent(code), str(path), "exec"), namespace)


def test_the_python_example_of_the_readme_calls_what_exists() -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M
    )
    owners = {"todm": todm, "model": todm.Model, "run": todm.Run}
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    for call in calls:
        if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
            continue
        owner = call.func.value.id
        function = getattr(owners[owner], call.func.attr)
        itself = () if owner == "todm" else (None,)
        named = {word.arg: None for word in call.keywords if word.arg}
        inspect.signature(function).bind(*itself, *(None for _ in call.args), **named)
    assert len(calls) >= 8


@pytest.mark.parametrize("page", ["docs/glossary.md", "docs/experiments/README.md", "CHANGELOG.md"])
def test_renamed_settings_are_listed(page: str) -> None:
    rows = re.findall(
        r"^ *\| `([\w.]+)(?:: [^`]*)?` \| `([\w.]+)(?:: [^`]*)?` \|$", (ROOT / page).read_text(), re.M
    )
    assert {(old, new.replace(".widths", ".widths.ffn_dim")) for old, new in rows} == set(RENAMED.items())


def test_every_page_is_reachable_from_the_index() -> None:
    start = ROOT / "docs" / "README.md"
    seen, waiting = set(), [start]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert [str(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in seen] == []
