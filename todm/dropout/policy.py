"""The protocol of an adaptive-dropout policy."""

from __future__ import annotations

from typing import Protocol

from todm.nn.dropout import DropoutPlan
from todm.space.spec import SubnetSpec


class DropoutPolicy(Protocol):
    """From a spec to what its pass drops."""

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """The plan of a training pass at `spec`, after `progress` (0 to 1) of the run behind its start."""
        ...
