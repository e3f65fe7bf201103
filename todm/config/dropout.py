"""Settings ``train.dropout.*``: adaptive dropout."""

from __future__ import annotations

from dataclasses import dataclass, field

from todm.config.fields import setting

POLICIES = ("constant", "max_only", "subnet_scaled", "standout", "reweighted", "mixed")
SCHEDULES = ("constant", "linear", "exponential", "curriculum", "reversed_curriculum", "validation")
PENALTIES = ("l1", "lp", "log_sum", "log2_sum", "mcp", "scad", "standout")
"""Names that are checked without importing torch. Others are looked up where they are registered."""


def _list_names(names: tuple[str, ...]) -> str:
    return ", ".join(f"``{name}``" for name in names[:-1]) + f" or ``{names[-1]}``"


@dataclass(frozen=True, kw_only=True)
class DropoutScheduleConfig:
    """Factor of the dropout policy's strength over the run."""

    name: str = setting(
        "constant",
        f"Registered in `todm.dropout.schedules`: {_list_names(SCHEDULES)}.",
        choices=SCHEDULES,
        registry="todm.dropout.schedules:SCHEDULES",
    )
    last: float = setting(0.1, "exponential: factor at the end of the run.", gt=0.0, le=1.0)
    growth: float = setting(
        10.0,
        "curriculum and its reverse: how fast the factor rises; 10 / T per step (Morerio et al.).",
        gt=0.0,
        le=1e6,
    )
    rise: float = setting(
        1.25, "validation: multiplier after a validation without a new best loss.", ge=1.0, le=1000.0
    )
    fall: float = setting(0.9, "validation: multiplier after a new best loss.", gt=0.0, le=1.0)
    least: float = setting(0.1, "validation: lowest factor.", ge=0.0, le=1.0)
    most: float = setting(3.0, "validation: highest factor.", ge=1.0, le=1000.0)


@dataclass(frozen=True, kw_only=True)
class ReweightedConfig:
    """Dropout of feed-forward weights as adaptive sparsity (LeJeune et al., arXiv 2106.07769).

    A weight is kept with a = eta / (eta + strength); eta follows from its size and the penalty.
    """

    penalty: str = setting(
        "log_sum",
        f"Registered in `todm.dropout.penalties`: {_list_names(PENALTIES)}.",
        choices=PENALTIES,
        registry="todm.dropout.penalties:PENALTIES",
    )
    strength: float = setting(
        1e-4, "Lambda at full width, on the scale of the penalty's eta.", gt=0.0, le=1e6
    )
    exponent: float = setting(0.5, "p of ``lp``.", gt=0.0, le=2.0)
    epsilon: float = setting(1e-3, "Offset of ``log_sum`` and ``log2_sum``.", gt=0.0, le=1e3)
    concavity: float = setting(
        3.0,
        "Size in lambda beyond which ``mcp`` and ``scad`` are flat; ``scad`` needs more than 1.",
        gt=0.0,
        le=1e6,
    )
    tolerance: float = setting(
        0.1,
        "After training, weights with a below this become exact zeros. In training, kept weights are scaled "
        "by at most 1 / tolerance.",
        ge=0.0,
        lt=1.0,
    )
    units: bool = setting(
        False,
        "Treat whole hidden units by the root mean square of their output weights instead of single weights; "
        "units that vanish make a net smaller on every device.",
    )


@dataclass(frozen=True, kw_only=True)
class MixedConfig:
    """Mixture of features before and after channel dropout (Xu et al., arXiv 2506.12738)."""

    weight: float = setting(
        0.3, "w in w x + (1 - w) ChannelDropout(x) of a layer that is still mixed.", ge=0.0, le=1.0
    )
    until: float = setting(
        2 / 3,
        "Share of the run after its warm-up phases over which layers switch to w = 1, front to back.",
        gt=0.0,
        le=1.0,
    )


@dataclass(frozen=True, kw_only=True)
class DropoutConfig:
    """Adaptive dropout: the policy, its strength at full width and its schedule."""

    policy: str = setting(
        "subnet_scaled",
        f"Registered in `todm.dropout`: {_list_names(POLICIES)}.",
        choices=POLICIES,
        registry="todm.dropout:POLICIES",
    )
    rate: float = setting(
        0.1, "Drop probability at full width; for ``mixed`` that of its channels.", ge=0.0, lt=1.0
    )
    schedule: DropoutScheduleConfig = field(default_factory=DropoutScheduleConfig)
    reweighted: ReweightedConfig = field(default_factory=ReweightedConfig)
    mixed: MixedConfig = field(default_factory=MixedConfig)
