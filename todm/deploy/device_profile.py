"""Device profiles: how a bundle is measured for a kind of device, from the files in ``export/devices``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from todm.errors import UserError
from todm.runtime.benchmark_result import BenchmarkResult
from todm.runtime.layout import Precision

Reach = Literal["ssh", "adb"]


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """One kind of device.

    Args:
        name: of the profile.
        reach: how ``export/tools/push_and_bench.sh`` gets there.
        python: the command of the Python there.
        threads: numbers of threads to measure, each at least 1.
        precision: the precisions to measure.
        chunk_ms: what to give ``todm export --export.chunk_ms`` for a streaming bundle, 80 to 1280.
        max_megabytes: recommended limit of the three model files together, 10^6 bytes.
    """

    name: str
    reach: Reach
    python: str
    threads: tuple[int, ...]
    precision: tuple[Precision, ...]
    chunk_ms: int
    max_megabytes: float

    def remarks(self, result: BenchmarkResult) -> list[str]:
        """What a measured bundle has that this device should not get, in sentences."""
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
        UserError: no such file, no YAML, an unknown or missing key, or a value out of its range.
    """
    import yaml

    if not path.is_file():
        raise UserError(f"{path}: no such device profile; those that come with todm are in export/devices")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())[:120]})") from None
    names = [field.name for field in fields(DeviceProfile)]
    if not isinstance(data, dict) or set(data) != set(names):
        raise UserError(f"{path}: must hold exactly the keys {', '.join(names)}")
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
