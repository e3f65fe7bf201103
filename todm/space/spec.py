"""`SubnetSpec`: which encoder layers run, their widths, offline or streaming."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from todm.config import Mode
from todm.errors import UserError
from todm.files import read_json, write_json
from todm.space.widths import Widths


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """What one encoder layer runs at: hashable, without torch.

    Args:
        widths: (dimension name, width) pairs in the order of the names.
        mode: ``offline`` or ``streaming``.
    """

    widths: tuple[tuple[str, int], ...]
    mode: Mode

    def width(self, dimension: str) -> int:
        """Width in one elastic dimension."""
        return dict(self.widths)[dimension]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the elastic dimensions."""
        return tuple(name for name, _ in self.widths)


@dataclass(frozen=True, kw_only=True, order=True)
class SubnetSpec:
    """One subnet of a supernet: hashable, without torch, the same in a cache key and on a device.

    Args:
        layers: indices of the supernet's encoder layers that run, ascending, at least one.
        widths: width of each of those layers in every elastic dimension, by the dimension's name
            (`todm.space.dimensions`); all positive. Any mapping is accepted and stored as `Widths`.
        mode: ``offline`` (forward and backward SSM heads) or ``streaming`` (forward heads only).

    Raises:
        UserError: the fields contradict each other.

    Example:
        >>> spec = SubnetSpec(layers=(0, 2), widths={"ffn_dim": (64, 128)}, mode="offline")
        >>> spec.depth, spec.width("ffn_dim")
        (2, (64, 128))
        >>> SubnetSpec.from_dict(spec.to_dict()) == spec
        True
    """

    layers: tuple[int, ...]
    widths: Mapping[str, Sequence[int]]
    mode: Mode

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise UserError(f"spec: layers must be ascending indices, got {list(self.layers)}")
        for name, widths in self.widths.items():
            if len(widths) != len(self.layers) or min(widths) < 1:
                raise UserError(
                    f"spec: widths.{name} needs one positive width per layer ({len(self.layers)}), "
                    f"got {list(widths)}"
                )
        if self.mode not in ("offline", "streaming"):
            raise UserError(f"spec: mode must be 'offline' or 'streaming', got {self.mode!r}")
        object.__setattr__(self, "widths", Widths(self.widths))

    @property
    def depth(self) -> int:
        """Number of encoder layers that run."""
        return len(self.layers)

    def width(self, dimension: str) -> tuple[int, ...]:
        """Widths of the running layers in one elastic dimension, in order."""
        return tuple(self.widths[dimension])

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each running layer runs at, in order."""
        return tuple(
            LayerSpec(widths=tuple((name, widths[i]) for name, widths in self.widths.items()), mode=self.mode)
            for i in range(self.depth)
        )

    @property
    def name(self) -> str:
        """Short, unique and stable: depth, mean width of each dimension, mode and four digits of a hash."""
        means = "x".join(str(round(sum(widths) / self.depth)) for widths in self.widths.values())
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:4]
        return "-".join(part for part in (f"L{self.depth}", means, self.mode[:3], digest) if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML."""
        return {"layers": list(self.layers), "mode": self.mode, "widths": Widths(self.widths).to_dict()}

    def to_json(self) -> str:
        """One canonical line: equal specs give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SubnetSpec:
        """Inverse of `to_dict`; also reads earlier files, with ``ffn_dims`` instead of ``widths``.

        Raises:
            UserError: other keys, or values of a wrong type.
        """
        if set(data) == {"layers", "ffn_dims", "mode"}:
            data = {"layers": data["layers"], "widths": {"ffn_dim": data["ffn_dims"]}, "mode": data["mode"]}
        if set(data) != {"layers", "widths", "mode"}:
            raise UserError(f"spec: expected the keys layers, mode and widths, got {sorted(data)}")
        if not isinstance(data["widths"], Mapping):
            raise UserError(f"spec: widths must map dimension names to lists, got {data['widths']!r}")
        lists = {
            "layers": data["layers"],
            **{f"widths.{key}": value for key, value in data["widths"].items()},
        }
        for key, value in lists.items():
            if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
                raise UserError(f"spec: {key} must be a list of whole numbers, got {value!r}")
        return cls(layers=tuple(data["layers"]), widths=data["widths"], mode=data["mode"])

    def save(self, path: Path) -> None:
        """Write the spec to ``spec.json``."""
        write_json(path, dict(sorted(self.to_dict().items())))

    @classmethod
    def load(cls, path: str | Path) -> SubnetSpec:
        """Read ``spec.json``; a missing or broken file raises `UserError`."""
        path = Path(path)
        data = read_json(path, hint="give the spec.json of a subnet")
        if not isinstance(data, dict):
            raise UserError(f"{path}: a spec is a JSON object with layers, mode and widths")
        try:
            return cls.from_dict(data)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
