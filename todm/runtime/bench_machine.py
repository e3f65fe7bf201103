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
    # Linux hands getrusage's figure down from the parent to a child; this one starts afresh.
    if (peak := _status_mb("VmHWM")) is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


def rss_mb() -> float | None:
    """Memory of this process now, 2^20 bytes; None where there is no ``/proc``."""
    return _status_mb("VmRSS")


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


def _status_mb(key: str) -> float | None:
    """A figure of ``/proc/self/status``, kilobytes there."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{key}:")), None)


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
