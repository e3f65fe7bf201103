"""Device profiles of ``export/devices``: connection, threads, precisions and limits of a kind of device."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from todm.config.yaml_reader import read_yaml
from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult
from todm.runtime.layout import Precision

Reach = Literal["ssh", "adb"]


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """Profile of one kind of device.

    Args:
        name: name of the profile.
        reach: connection that ``export/tools/push_and_bench.sh`` uses.
        python: command that starts Python on the device.
        threads: numbers of threads to measure, each at least 1.
        precision: precisions to measure.
        chunk_ms: recommended ``export.chunk_ms`` of a streaming bundle, 80 to 1280 milliseconds.
        max_megabytes: recommended maximum of the three model files together, 10^6 bytes.
    """

    name: str
    reach: Reach
    python: str
    threads: tuple[int, ...]
    precision: tuple[Precision, ...]
    chunk_ms: int
    max_megabytes: float

    def remarks(self, result: BenchmarkResult) -> list[str]:
        """List the recommendations that a measured bundle violates, one sentence each."""
        found = []
        megabytes = (result.model_bytes or 0) / 1e6
        if megabytes > self.max_megabytes:
            found.append(
                f"{result.name} {result.precision}: {megabytes:.1f} MB are more than the "
                f"{self.max_megabytes:g} MB recommended for {self.name}"
            )
        if result.chunk_ms is not None and result.chunk_ms != self.chunk_ms:
            found.append(
                f"{result.name}: its chunks are {result.chunk_ms:g} ms, {self.chunk_ms} are "
                f"recommended for {self.name}; export it with --export.chunk_ms {self.chunk_ms}"
            )
        return found


def load_device_profile(path: Path) -> DeviceProfile:
    """Read and check a profile.

    Raises:
        UserError: missing file, invalid YAML, unknown or missing keys, or a value outside its range.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such device profile; todm's own are in export/devices")
    data = read_yaml(path)
    names = [field.name for field in fields(DeviceProfile)]
    if not isinstance(data, dict) or set(data) != set(names):
        raise UserError(f"{path}: must have exactly the keys {', '.join(names)}")
    checks = {
        "name": (_is_word, "a word"),
        "reach": (lambda value: value in get_args(Reach), "ssh or adb"),
        "python": (_is_word, "the name of a command"),
        "threads": (
            lambda value: _is_list(value, lambda n: _is_number(n, 1, 1024)),
            "a list of numbers from 1",
        ),
        "precision": (
            lambda value: _is_list(value, lambda word: word in get_args(Precision)),
            f"a list out of {', '.join(get_args(Precision))}",
        ),
        "chunk_ms": (lambda value: _is_number(value, 80, 1280), "a whole number from 80 to 1280"),
        "max_megabytes": (lambda value: isinstance(value, int | float) and value > 0, "a number above 0"),
    }
    for name, (holds, wanted) in checks.items():
        if not holds(data[name]):
            raise UserError(f"{path}: {name}: must be {wanted}, not {data[name]!r}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return DeviceProfile(**values)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not any(c.isspace() for c in value)


def _is_number(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_list(value: Any, holds: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(holds(item) for item in value)
