from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.nets import SPACE, make_batch, make_supernet, random_specs
from todm.config import DropoutConfig, load_config
from todm.config.dropout import POLICIES as SHIPPED
from todm.dropout import POLICIES, build_policy
from todm.errors import UserError
from todm.nn.dropout import DropoutPlan
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def rates(policy: str, spec: SubnetSpec, rate: float = 0.2) -> tuple[tuple[float, ...], ...]:
    return site_rates(build_policy(DropoutConfig(policy=policy, rate=rate), SPACE).plan(spec))


def site_rates(plan: DropoutPlan) -> tuple[tuple[float, ...], ...]:
    """Of hidden units, feed-forward branches and SSM branches, layer by layer."""
    return (
        tuple(layer.ffn_hidden.strength for layer in plan.layers),
        tuple(layer.output("ffn").strength for layer in plan.layers),
        tuple(layer.output("ssm").strength for layer in plan.layers),
    )


@pytest.mark.parametrize("policy", SHIPPED)
@pytest.mark.parametrize("mode", SPACE.modes)
def test_the_max_net_keeps_p(policy: str, mode: str) -> None:
    hidden, out, ssm = rates(policy, SPACE.max("offline" if mode == "offline" else "streaming"))
    assert out == pytest.approx((0.2,) * 3) and ssm == pytest.approx((0.2,) * 3)
    # Two policies do something else to the hidden units: see their own tests.
    assert hidden == pytest.approx((0.0 if policy in ("standout", "reweighted") else 0.2,) * 3)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_rate_for_each_running_layer(policy: str) -> None:
    for spec in random_specs(20):
        for site in rates(policy, spec):
            assert len(site) == spec.depth  # the hidden units of some policies are dropped in another way
            assert all(0.0 <= rate <= 0.2 + 1e-12 for rate in site)


def test_subnet_scaled_is_in_proportion_to_the_width() -> None:
    spec = SubnetSpec(layers=(0, 2), widths={"ffn_dim": (8, 24)}, mode="offline")
    hidden, out, ssm = rates("subnet_scaled", spec)
    assert hidden == pytest.approx((0.2 * 8 / 24, 0.2))
    assert out == hidden
    # The SSM has no width: its rate is that of the net's whole share, the missing layer counting 0.
    assert ssm == pytest.approx((0.2 * (8 / 24 + 0 + 1) / 3,) * 2)


def test_subnet_scaled_grows_with_any_width() -> None:
    for spec in random_specs(20):
        for layer, dim in enumerate(spec.width("ffn_dim")):
            if dim == 24:
                continue
            wider = replace(
                spec,
                widths={
                    "ffn_dim": tuple(
                        24 if i == layer else other for i, other in enumerate(spec.width("ffn_dim"))
                    )
                },
            )
            small, large = rates("subnet_scaled", spec), rates("subnet_scaled", wider)
            assert large[0][layer] > small[0][layer] and large[2][0] > small[2][0]


@pytest.mark.parametrize("policy", SHIPPED)
def test_a_net_alone_keeps_p_whatever_its_widths(policy: str) -> None:
    spec = SubnetSpec(layers=(0, 1), widths={"ffn_dim": (8, 24)}, mode="streaming")
    plan = build_policy(DropoutConfig(policy=policy, rate=0.2), SearchSpace.of(spec)).plan(spec)
    for site in site_rates(plan):
        assert site in ((0.2, 0.2), (0.0, 0.0))
    assert site_rates(plan)[2] == (0.2, 0.2)


def test_max_only_spares_the_students() -> None:
    assert rates("max_only", SPACE.mid()) == ((0.0,) * 2,) * 3
    almost = SubnetSpec(layers=(0, 1, 2), widths={"ffn_dim": (24, 24, 16)}, mode="offline")
    assert rates("max_only", almost) == ((0.0,) * 3,) * 3


def test_constant_is_constant() -> None:
    assert rates("constant", SPACE.min()) == ((0.2,),) * 3


@torch.no_grad()
def test_the_plan_reaches_the_pass_and_evaluation_is_exact() -> None:
    net = make_supernet()
    batch = make_batch([60], [3])
    policy = build_policy(DropoutConfig(rate=0.3), SPACE)
    for spec in random_specs(2):
        plain = net(batch, spec)[0]
        dropped = net(batch, spec, policy.plan(spec), torch.Generator().manual_seed(0))[0]
        assert not torch.allclose(dropped, plain)
        none = build_policy(DropoutConfig(rate=0.0), SPACE).plan(spec)
        assert torch.equal(net(batch, spec, none)[0], plain)


def test_unknown_policy_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"train\.dropout\.policy.*subnet_scaled"):
        load_config(None, ["--train.dropout.policy", "sometimes"])
