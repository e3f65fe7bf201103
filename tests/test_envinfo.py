"""`todm env`: complete, works with a broken k2, and imports no large package."""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from todm import envinfo
from todm.commands import env as command


def test_everything_is_named_and_text() -> None:
    env = envinfo.collect_env()
    for name in (
        "python",
        "torch",
        "torchaudio",
        "lhotse",
        "onnxruntime",
        "sherpa-onnx",
        "k2",
        "cpu",
        "cores",
    ):
        assert env[name]
    assert all(type(value) is str for value in env.values())
    assert env["torch"] == metadata.version("torch")
    assert env["memory"].endswith("GiB")
    lines = envinfo.format_env(env).splitlines()
    assert len(lines) == len(env)
    assert len({line.index(value) for line, value in zip(lines, env.values(), strict=True)}) == 1


def test_no_large_package_is_imported() -> None:
    script = (
        "import sys; from todm.envinfo import collect_env; collect_env();"
        "print([name for name in ('torch', 'lhotse', 'onnxruntime', 'k2', 'numpy') if name in sys.modules])"
    )
    root = Path(envinfo.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_missing_package() -> None:
    assert envinfo.package_version("no-such-package-at-all") == "not found"


def make_k2(folder: Path, *, compiled: str | None) -> None:
    (folder / "k2").mkdir()
    (folder / "k2" / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    info = folder / "k2-1.23.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: k2\nVersion: 1.23.4\n")
    if compiled:
        (folder / compiled).write_bytes(b"")


SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


@pytest.mark.parametrize(
    ("compiled", "broken"),
    [
        (None, True),
        ("_k2.cpython-39-x86_64-linux-gnu.so", True),
        (f"_k2{SUFFIX}", False),
        (f"k2/_k2{SUFFIX}", False),
    ],
)
def test_k2_is_described_from_its_files(
    compiled: str | None, broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_k2(tmp_path, compiled=compiled)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "k2", raising=False)
    text = envinfo.describe_k2()
    assert text.startswith("1.23.4") and "optional" in text
    assert ("broken" in text) == broken


def test_k2_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert envinfo.describe_k2().startswith("not found (optional")


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    assert envinfo.describe_commit(tmp_path) == "not a checkout"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert envinfo.describe_commit(tmp_path) == "no commit yet"
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    commit = envinfo.describe_commit(tmp_path)
    assert len(commit) == 12 and int(commit, 16)
    (tmp_path / "file").write_text("2")
    assert envinfo.describe_commit(tmp_path) == f"{commit} +changes"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(words))
    out = capsys.readouterr().out
    if words:
        assert json.loads(out) == envinfo.collect_env()
    else:
        assert "onnxruntime" in out and "k2" in out
