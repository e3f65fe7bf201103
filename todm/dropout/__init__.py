"""Adaptive dropout: a policy turns a spec into the drop rates of its pass.

A new policy is one new file and one line in `POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable

from todm.config import DropoutConfig
from todm.dropout.constant import ConstantDropout
from todm.dropout.max_only import MaxOnlyDropout
from todm.dropout.policy import DropoutPolicy
from todm.dropout.subnet_scaled import SubnetScaledDropout
from todm.errors import UserError
from todm.space.space import SearchSpace

POLICIES: dict[str, Callable[[float, SearchSpace], DropoutPolicy]] = {
    "constant": ConstantDropout,
    "max_only": MaxOnlyDropout,
    "subnet_scaled": SubnetScaledDropout,
}


def build_policy(config: DropoutConfig, space: SearchSpace) -> DropoutPolicy:
    """The policy that `config` names; an unknown name or an impossible rate raises `UserError`."""
    if config.policy not in POLICIES:
        raise UserError(
            f"train.dropout.policy: {config.policy!r} is not a policy; choose one of {', '.join(POLICIES)}"
        )
    if not 0.0 <= config.rate < 1.0:
        raise UserError(f"train.dropout.rate: must be at least 0 and below 1, got {config.rate}")
    return POLICIES[config.policy](config.rate, space)


__all__ = ["POLICIES", "DropoutPolicy", "build_policy"]
