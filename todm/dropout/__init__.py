"""Adaptive dropout: a policy chooses the dropout of a spec's pass, a schedule scales it over the run.

A policy maps a spec to a `todm.nn.dropout.DropoutPlan`. To add one:

1. Write one new file with a class that has ``__init__(config, space)`` and ``plan(spec, progress)``
   (`todm.dropout.policy.DropoutPolicy`); `todm.dropout.rates` has the simplest examples.
2. Add one line to `POLICIES`. ``train.dropout.policy: NAME`` then selects it, and the tests of all policies
   run on it.

A new schedule is one function and one line in `todm.dropout.schedules.SCHEDULES`. See
``docs/how-to/add-a-dropout-policy.md``.
"""

from __future__ import annotations

from collections.abc import Callable

from todm.config import DropoutConfig
from todm.dropout.mixed import MixedDropout
from todm.dropout.policy import DropoutPolicy, ScheduledDropout
from todm.dropout.rates import ConstantDropout, MaxOnlyDropout, SubnetScaledDropout
from todm.dropout.reweighted import ReweightedDropout
from todm.dropout.schedules import build_schedule
from todm.dropout.standout import StandoutDropout
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
    """Build the policy and the schedule that `config` names."""
    return ScheduledDropout(POLICIES[config.policy](config, space), build_schedule(config.schedule))


__all__ = ["POLICIES", "DropoutPolicy", "ScheduledDropout", "build_policy"]
