"""The protocol of an adaptive-dropout policy."""

from __future__ import annotations

from typing import Protocol

from todm.space.dropout_plan import DropoutPlan
from todm.space.spec import SubnetSpec


class DropoutPolicy(Protocol):
    """From a spec to the drop rates of its pass."""

    def plan(self, spec: SubnetSpec) -> DropoutPlan:
        """Rates for a training pass at `spec`, one per running layer and site."""
        ...
