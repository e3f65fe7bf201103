"""Interface of a dropout policy, and a policy combined with a schedule."""

from __future__ import annotations

from typing import Protocol

from todm.dropout.schedules import DropoutSchedule
from todm.nn.dropout import DropoutPlan
from todm.space.spec import SubnetSpec


class DropoutPolicy(Protocol):
    """Maps a spec to the dropout of its pass."""

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Choose the dropout of a training pass.

        Args:
            spec: spec of the pass.
            progress: share of the sandwich phase that is done, 0 to 1.
        """
        ...


class ScheduledDropout:
    """A policy whose strength is multiplied by a schedule; a policy itself.

    Args:
        policy: chooses the dropout of a pass.
        schedule: multiplies its strength.
    """

    def __init__(self, policy: DropoutPolicy, schedule: DropoutSchedule) -> None:
        self.policy = policy
        self.schedule = schedule

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Scale the policy's plan, see `DropoutPolicy`."""
        return self.policy.plan(spec, progress).scaled(self.schedule.factor(progress))
