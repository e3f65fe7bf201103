"""What the files around the package promise: versions, commands, links, no trace of a machine."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import todm
from tests.recipes.stand_in import make_recipe
from todm.cli import COMMANDS, command_module

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "recipes" / "librispeech" / "README.md")


def tracked_files() -> list[Path]:
    """Text files that git has or would take, and, in an unpacked archive, those beside the package."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    folders = [ROOT / name for name in ("todm", "tests", "recipes")]
    inside = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in ROOT.iterdir() if path.is_file()] + [p for p in inside if p.suffix != ".pyc"]


def commands_in(path: Path) -> list[str]:
    """Lines of the shell blocks of a Markdown file, continued lines joined, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def test_versions_agree() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^version = "(.*)"$', project, re.M)[1] == todm.__version__  # type: ignore[index]
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0] == todm.__version__


def test_constraints_pin_every_direct_requirement() -> None:
    pinned = {
        re.split(r"==", line)[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    project = (ROOT / "pyproject.toml").read_text()
    tables = re.findall(r"^(?:dependencies|onnx|device|search|demo|test) = \[(.*?)\]$", project, re.S | re.M)
    wanted = {re.split(r"[\[><=]", name)[0] for name in re.findall(r'"([^"]+)"', "".join(tables))}
    assert len(wanted) > 20
    assert wanted - {"todm"} <= pinned
    assert {"torch==2.11.0", "torchaudio==2.11.0"} <= set((ROOT / "constraints.txt").read_text().split())


def test_files_name_no_machine_and_no_index() -> None:
    # Put together here, so that this file does not contain them.
    words = [
        "/" + "tmp",
        "/" + "work/",
        "/" + "root/",
        "--index" + "-url",
        "find" + "-links",
        "pypi" + ".org",
    ]
    forbidden = re.compile("|".join(map(re.escape, words)))
    files = tracked_files()
    assert len(files) > 20
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in forbidden.finditer(text)]
    assert found == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def parse_todm(words: list[str]) -> None:
    """Parse the words of one ``todm`` call as the command line would, without running it."""
    if words == ["--help"]:
        return
    assert words[0] in COMMANDS, words
    module = command_module(words[0])
    parser = argparse.ArgumentParser(prog=f"todm {words[0]}", allow_abbrev=False)
    module.add_arguments(parser)
    args, rest = parser.parse_known_args([word for word in words[1:] if word != "--"])
    if rest:
        from todm.config import load_config

        assert getattr(args, "takes_settings", False), f"unknown words {rest}"
        load_config(None, rest)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_commands_are_real(path: Path) -> None:
    lines = commands_in(path)
    assert lines
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in lines:
        words = shlex.split(line)
        if words[0] == "todm":
            parse_todm(words[1:])
        elif words[0] == "torchrun":
            module = words.index("-m")
            assert words[module + 1] == "todm", line
            parse_todm(words[module + 2 :])
        elif words[0] == "make":
            assert set(words[1:]) <= targets, line
        elif words[0].endswith("run.sh"):
            assert (ROOT / words[0]).is_file()
            parse_todm(["run", *words[1:]])
            assert (ROOT / words[words.index("--conf") + 1]).is_file(), line
        elif words[0].endswith("ablate.sh"):
            known = (ROOT / words[0]).read_text()
            assert all(f"    {word}" in known or f"{word} |" in known for word in words[1:] if word[0] == "-")
        else:
            assert words[0] in ("source", "pip") or words[0].startswith(".venv/bin/"), line


def test_the_recipe_calls_real_commands(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    lines = recipe(fine_tune="min", synth=False)
    others = {"run", "synth", "env", "transcribe", "bench-train", "latency", "ablate"}
    commands = {line.split()[0] for line in lines}
    assert commands <= set(COMMANDS) and set(COMMANDS) - commands - others <= {"config"}
    for line in lines:
        parse_todm(shlex.split(line))


def test_help_needs_no_torch() -> None:
    code = "import sys, todm.cli; from contextlib import suppress\n"
    code += "with suppress(SystemExit): todm.cli.main(['--help'])\n"
    code += "heavy = {'torch', 'lhotse', 'onnxruntime', 'matplotlib', 'pymoo', 'numpy'} & set(sys.modules)\n"
    code += "sys.exit(f'imported: {heavy}' if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout and text[:20] in done.stdout for name, text in COMMANDS.items())


def test_every_command_has_its_two_functions() -> None:
    for name, text in COMMANDS.items():
        module = command_module(name)
        assert text and callable(module.add_arguments) and callable(module.run)
