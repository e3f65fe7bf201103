"""The interface of objectives."""

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
    """An objective as the user names it: ``wer``, or ``rtf on pi4``."""

    name: str
    device: str | None = None

    def __str__(self) -> str:
        return self.name if self.device is None else f"{self.name} on {self.device}"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One figure of a spec.

    Args:
        objective: as the user names it.
        unit: of the figure; bytes, milliseconds, percent or none.
        decoded: whether it comes from decoding. What does not is known before anything is spent, and grows
            with every layer and every unit: the smallest spec has the smallest figure.
        measure: spec and the result of its decoding (empty where there was none) to the figure.
    """

    objective: ObjectiveRef
    unit: Unit
    decoded: bool
    measure: Callable[[SubnetSpec, Mapping[str, Any]], float]

    @property
    def name(self) -> str:
        """``rtf on pi4``."""
        return str(self.objective)

    def show(self, value: float) -> str:
        """The figure with its unit, for people."""
        return show_value(value, self.unit)


@dataclass(frozen=True, kw_only=True)
class ObjectiveContext:
    """What objectives are built from.

    Args:
        config: of the run.
        vocab_size: V, blank included.
        precision: of the nets that will ship.
        devices: latency tables by device.
        num_threads: of the device's runtime; None takes the fewest that the table holds.
        extrapolate: whether tables may be asked about specs beyond what they were fitted on.
        export_size: bytes of a spec's ONNX files in `precision`, by exporting it.
        shipped: spec to that of the net that is extracted for it, which hidden units may be missing from.
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
    """How objectives of one name are made.

    Args:
        about: one line of help.
        unit: of their figures.
        build: objective and context to the objective.
        on_device: whether it needs ``on DEVICE``.
    """

    about: str
    unit: Unit
    build: Callable[[ObjectiveRef, ObjectiveContext], Objective]
    on_device: bool = False


def show_value(value: float, unit: Unit) -> str:
    """A figure for people: ``1.20%``, ``1.53 M``, ``880 kB``, ``12.3 ms``.

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
