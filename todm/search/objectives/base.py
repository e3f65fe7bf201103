"""Interface of objectives: a figure of a spec to minimise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from todm.config import Config
from todm.runtime.layout import Precision
from todm.search.latency import DeviceTable
from todm.space.spec import SubnetSpec

Unit = Literal["%", "B", "ms", ""]


@dataclass(frozen=True, kw_only=True)
class ObjectiveRef:
    """Reference to an objective: ``wer``, or ``rtf on pi4``."""

    name: str
    device: str | None = None

    def __str__(self) -> str:
        return self.name if self.device is None else f"{self.name} on {self.device}"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One figure of a spec, smaller is better.

    Args:
        ref: name and device.
        unit: bytes, milliseconds, percent or none.
        decoded: whether it needs decoding; if not, it is cheap and monotone in size.
        measure: maps a spec and the result of its decoding (empty without one) to the figure.
    """

    ref: ObjectiveRef
    unit: Unit
    decoded: bool
    measure: Callable[[SubnetSpec, Mapping[str, Any]], float]

    @property
    def name(self) -> str:
        """Name with the device, for example ``rtf on pi4``."""
        return str(self.ref)

    def show(self, value: float) -> str:
        """Format a figure with its unit."""
        return show_value(value, self.unit)


@dataclass(frozen=True, kw_only=True)
class ObjectiveContext:
    """Config, tables and options that objectives are built from.

    Args:
        config: config of the run.
        vocab_size: V, blank included.
        precision: precision of the exported nets.
        devices: latency tables by device.
        num_threads: threads on the device; None takes the fewest measured.
        extrapolate: allow predictions for specs outside the measured range.
        export_size: exports a spec in `precision` and returns the bytes of its ONNX files.
        shipped: maps a spec to the spec after dead-unit removal.
    """

    config: Config
    vocab_size: int
    precision: Precision
    devices: Mapping[str, DeviceTable] = field(default_factory=dict)
    num_threads: int | None = None
    extrapolate: bool = False
    export_size: Callable[[SubnetSpec], int] | None = None
    shipped: Callable[[SubnetSpec], SubnetSpec] = lambda spec: spec


@dataclass(frozen=True, kw_only=True)
class Family:
    """Builder of the objectives of one name.

    Args:
        unit: unit of the figures.
        build: maps a reference and the context to the objective.
        on_device: whether the reference needs ``on DEVICE``.
    """

    unit: Unit
    build: Callable[[ObjectiveRef, ObjectiveContext], Objective]
    on_device: bool = False


def show_value(value: float, unit: Unit) -> str:
    """Format a figure with its unit: ``1.20%``, ``1.53 M``, ``880 kB``, ``12.3 ms``.

    Example:
        >>> show_value(1_531_000, ""), show_value(0.0123, ""), show_value(49_152, "B")
        ('1.53 M', '0.0123', '49.2 kB')
    """
    if unit == "%":
        return f"{value:.2f}%"
    if unit == "ms":
        return f"{value:.3g} ms"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()
