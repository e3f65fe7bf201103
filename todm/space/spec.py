"""`SubnetSpec`: which encoder layers run, how wide each feed-forward is, offline or streaming."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from todm.config import Mode
from todm.errors import UserError
from todm.files import write_json


@dataclass(frozen=True, kw_only=True, order=True)
class SubnetSpec:
    """One subnet of a supernet: hashable, torch-free, the same thing in a cache key and on a device.

    Args:
        layers: indices of the supernet's encoder layers that run, ascending, at least one.
        ffn_dims: feed-forward width of each of those layers, all positive.
        mode: ``offline`` (forward and backward SSM heads) or ``streaming`` (forward heads only).

    Raises:
        UserError: the fields contradict each other.

    Example:
        >>> spec = SubnetSpec(layers=(0, 2), ffn_dims=(64, 128), mode="offline")
        >>> spec.depth, spec.name
        (2, 'L2-96-off-ff87')
        >>> SubnetSpec.from_dict(spec.to_dict()) == spec
        True
    """

    layers: tuple[int, ...]
    ffn_dims: tuple[int, ...]
    mode: Mode

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise UserError(f"spec: layers must be ascending indices, got {list(self.layers)}")
        if len(self.ffn_dims) != len(self.layers) or min(self.ffn_dims) < 1:
            raise UserError(
                f"spec: ffn_dims needs one positive width per layer ({len(self.layers)}), "
                f"got {list(self.ffn_dims)}"
            )
        if self.mode not in ("offline", "streaming"):
            raise UserError(f"spec: mode must be 'offline' or 'streaming', got {self.mode!r}")

    @property
    def depth(self) -> int:
        """Number of encoder layers that run."""
        return len(self.layers)

    @property
    def name(self) -> str:
        """Short, unique and stable: depth, mean width, mode and four digits of a hash."""
        mean = round(sum(self.ffn_dims) / self.depth)
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:4]
        return f"L{self.depth}-{mean}-{self.mode[:3]}-{digest}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML."""
        return {"layers": list(self.layers), "ffn_dims": list(self.ffn_dims), "mode": self.mode}

    def to_json(self) -> str:
        """One canonical line: equal specs give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SubnetSpec:
        """Inverse of `to_dict`; anything else than the three fields raises `UserError`."""
        if set(data) != {"layers", "ffn_dims", "mode"}:
            raise UserError(f"spec: expected the keys layers, ffn_dims and mode, got {sorted(data)}")
        for key in ("layers", "ffn_dims"):
            if not isinstance(data[key], (list, tuple)) or not all(type(item) is int for item in data[key]):
                raise UserError(f"spec: {key} must be a list of whole numbers, got {data[key]!r}")
        return cls(layers=tuple(data["layers"]), ffn_dims=tuple(data["ffn_dims"]), mode=data["mode"])

    def save(self, path: Path) -> None:
        """Write ``spec.json``."""
        write_json(path, dict(sorted(self.to_dict().items())))

    @classmethod
    def load(cls, path: Path) -> SubnetSpec:
        """Read ``spec.json``; a missing or broken file raises `UserError`."""
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable spec.json ({error})") from error
        if not isinstance(data, dict):
            raise UserError(f"{path}: a spec is a JSON object with layers, ffn_dims and mode")
        try:
            return cls.from_dict(data)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
