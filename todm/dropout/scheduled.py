"""A policy and a schedule together."""

from __future__ import annotations

from todm.dropout.policy import DropoutPolicy
from todm.dropout.schedules import DropoutSchedule
from todm.nn.dropout import DropoutPlan
from todm.space.spec import SubnetSpec


class ScheduledDropout:
    """What `policy` drops, at the strength that `schedule` leaves of it: a policy itself.

    Args:
        policy: any.
        schedule: any.
    """

    def __init__(self, policy: DropoutPolicy, schedule: DropoutSchedule) -> None:
        self.policy = policy
        self.schedule = schedule

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """See `DropoutPolicy`."""
        return self.policy.plan(spec, progress).scaled(self.schedule.factor(progress))
