"""What a measurement ran on, and the memory it took."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any


def peak_rss_mb() -> float | None:
    """Largest memory of this process so far, 2^20 bytes; None where the system does not tell."""
    try:
        # Linux hands getrusage's figure down from the parent to a child; this one starts afresh.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


def describe_machine(package: str) -> dict[str, Any]:
    """System, processor and the version of the runtime's package."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count(),
        "python": platform.python_version(),
        package: importlib.metadata.version(package),
    }


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for key in ("model name", "Hardware", "Model"):  # the latter two on ARM
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return None
