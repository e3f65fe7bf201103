"""Description of the machine, and memory of this process."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any


def peak_rss_mb() -> float | None:
    """Peak resident memory of this process, 2^20 bytes; None where the system does not report it."""
    # On Linux a child inherits getrusage's figure from its parent; /proc starts at 0.
    if (peak := _status_mb("VmHWM")) is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


def rss_mb() -> float | None:
    """Resident memory of this process, 2^20 bytes; None without ``/proc``."""
    return _status_mb("VmRSS")


def describe_machine(package: str) -> dict[str, Any]:
    """System, processor and installed version of the runtime's `package`."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpu": cpu_model(),
        "num_cpus": os.cpu_count(),
        "python": platform.python_version(),
        package: importlib.metadata.version(package),
    }


def cpu_model() -> str | None:
    """Name of the processor from ``/proc/cpuinfo``; None where it is not given."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for key in ("model name", "Hardware", "Model"):  # the latter two on ARM
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return None


def _status_mb(key: str) -> float | None:
    """Value of ``/proc/self/status``, converted from kilobytes to 2^20 bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{key}:")), None)
