"""What a run stands on: versions, machine, commit. Read from metadata; no large package is imported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from todm.runtime.machine import cpu_model

PACKAGES = (
    "todm",
    "torch",
    "torchaudio",
    "lhotse",
    "sentencepiece",
    "kaldialign",
    "numpy",
    "safetensors",
    "tensorboard",
    "pymoo",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "kaldi-native-fbank",
    "sherpa-onnx",
)


def collect_env() -> dict[str, str]:
    """Names and values as plain text, in the order in which they are shown."""
    env = {"python": f"{platform.python_version()} ({platform.python_implementation()})"}
    env.update({name: package_version(name) for name in PACKAGES})
    env["k2"] = describe_k2()
    env["platform"] = platform.platform()
    env["cpu"] = cpu_model() or platform.processor() or platform.machine()
    env["cores"] = cores()
    env["memory"] = memory()
    env["gpu"] = gpus()
    env["git commit"] = git_commit(Path(__file__).resolve().parent.parent)
    return env


def format_env(env: dict[str, str]) -> str:
    """An aligned table of `collect_env`'s values."""
    width = max(len(name) for name in env)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in env.items())


def package_version(name: str) -> str:
    """Version of an installed distribution, ``not found`` otherwise; the package is not imported."""
    try:
        return metadata.version(name) or "unknown version"
    except metadata.PackageNotFoundError:
        return "not found"


def describe_k2() -> str:
    """Whether the optional k2 could be imported, told from its files.

    A wheel for another Python holds a compiled part that this one does not see; importing it would fail.
    """
    version = package_version("k2")
    try:
        if importlib.util.find_spec("k2") is None:
            return "not found (optional; the native loss does without)"
        # The compiled part lies beside the package or inside it, depending on how k2 was built.
        whole = importlib.util.find_spec("_k2") is not None
        if not whole:
            spec = importlib.util.find_spec("k2")
            places = list(spec.submodule_search_locations or []) if spec else []
            suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
            whole = any(
                path.name.startswith("_k2") and path.name.endswith(suffixes)
                for place in places
                for path in Path(place).iterdir()
            )
    except (ImportError, ValueError, OSError) as error:
        return f"{version}, broken: {error} (optional; the native loss does without)"
    if not whole:
        return f"{version}, broken: no compiled part for this Python (optional; the native loss does without)"
    return f"{version} (optional)"


def cores() -> str:
    """Cores that this process may use, and those of the machine."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return str(total) if usable == total else f"{usable} of {total}"


def memory() -> str:
    """Main memory in GiB."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"


def gpus() -> str:
    """Name and memory of each NVIDIA GPU as the driver tells, ``none`` without one."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return "none"
    out = _output([command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    return "; ".join(out.splitlines()) or "none"


def git_commit(root: Path) -> str:
    """Commit of the checkout that this package runs from, ``+changes`` when files differ from it."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return "not a checkout"
    commit = _output([git, "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    if not commit:
        return "no commit yet"
    changed = _output([git, "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit} +changes" if changed else commit


def _output(command: list[str]) -> str:
    """Standard output of a short command, empty when it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
