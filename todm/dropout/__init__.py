"""Adaptive dropout: a policy turns a spec into what its pass drops, a schedule scales it over the run.

A new policy is one new file and one line in `POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable

from todm.config import DropoutConfig
from todm.dropout.constant import ConstantDropout
from todm.dropout.max_only import MaxOnlyDropout
from todm.dropout.mixed import MixedDropout
from todm.dropout.policy import DropoutPolicy
from todm.dropout.reweighted import ReweightedDropout
from todm.dropout.scheduled import ScheduledDropout
from todm.dropout.schedules import build_schedule
from todm.dropout.standout import StandoutDropout
from todm.dropout.subnet_scaled import SubnetScaledDropout
from todm.errors import UserError
from todm.space.space import SearchSpace

POLICIES: dict[str, Callable[[DropoutConfig, SearchSpace], DropoutPolicy]] = {
    "constant": ConstantDropout,
    "max_only": MaxOnlyDropout,
    "subnet_scaled": SubnetScaledDropout,
    "standout": StandoutDropout,
    "reweighted": ReweightedDropout,
    "mixed": MixedDropout,
}


def build_policy(config: DropoutConfig, space: SearchSpace) -> ScheduledDropout:
    """The policy and the schedule that `config` names.

    Raises:
        UserError: an unknown name or an impossible number.
    """
    if config.policy not in POLICIES:
        raise UserError(
            f"train.dropout.policy: {config.policy!r} is not a policy; choose one of {', '.join(POLICIES)}"
        )
    if not 0.0 <= config.rate < 1.0:
        raise UserError(f"train.dropout.rate: must be at least 0 and below 1, got {config.rate}")
    return ScheduledDropout(POLICIES[config.policy](config, space), build_schedule(config.schedule))


__all__ = ["POLICIES", "DropoutPolicy", "ScheduledDropout", "build_policy"]
