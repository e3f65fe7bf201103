"""Environment of a run: versions, machine and commit, without importing large packages."""

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
from todm.tables import format_pairs

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
    """Collect names and values as plain text, in the order of display."""
    env = {"python": f"{platform.python_version()} ({platform.python_implementation()})"}
    env.update({name: package_version(name) for name in PACKAGES})
    env["k2"] = describe_k2()
    env["platform"] = platform.platform()
    env["cpu"] = cpu_model() or platform.processor() or platform.machine()
    env["cores"] = describe_cores()
    env["memory"] = describe_memory()
    env["gpu"] = describe_gpus()
    env["git commit"] = describe_commit(Path(__file__).resolve().parent.parent)
    return env


def format_env(env: dict[str, str]) -> str:
    """Format the result of `collect_env` as an aligned table."""
    return format_pairs(env)


def package_version(name: str) -> str:
    """Return the version of an installed distribution or ``not found``; the package is not imported."""
    try:
        return metadata.version(name) or "unknown version"
    except metadata.PackageNotFoundError:
        return "not found"


def describe_k2() -> str:
    """Describe the optional k2 and whether it can be imported, from its files.

    The compiled module of a wheel for another Python is invisible to this one, and the import would fail.
    """
    version = package_version("k2")
    try:
        if importlib.util.find_spec("k2") is None:
            return "not found (optional)"
        # The compiled module is next to the package or inside it, depending on the build of k2.
        complete = importlib.util.find_spec("_k2") is not None
        if not complete:
            spec = importlib.util.find_spec("k2")
            places = list(spec.submodule_search_locations or []) if spec else []
            suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
            complete = any(
                path.name.startswith("_k2") and path.name.endswith(suffixes)
                for place in places
                for path in Path(place).iterdir()
            )
    except (ImportError, ValueError, OSError) as error:
        return f"{version}, broken: {error} (optional)"
    if not complete:
        return f"{version}, broken: no compiled module for this Python (optional)"
    return f"{version} (optional)"


def describe_cores() -> str:
    """Count the cores that this process may use, and those of the machine."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return str(total) if usable == total else f"{usable} of {total}"


def describe_memory() -> str:
    """Return the size of the main memory in GiB."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"


def describe_gpus() -> str:
    """List name and memory of each NVIDIA GPU from the driver; ``none`` without one."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return "none"
    out = _output([command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    return "; ".join(out.splitlines()) or "none"


def describe_commit(root: Path) -> str:
    """Return the commit of the checkout at `root`, with ``+changes`` if files differ from it."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return "not a checkout"
    commit = _output([git, "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    if not commit:
        return "no commit yet"
    changed = _output([git, "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit} +changes" if changed else commit


def _output(command: list[str]) -> str:
    """Return the standard output of a short command; empty if it fails or takes more than 5 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
