from __future__ import annotations

import pytest
import torch

from tests.nets import SPACE
from todm.config import DropoutConfig
from todm.dropout import build_policy
from todm.dropout.mixed import ChannelMix
from todm.space.spec import SubnetSpec


def test_channels_are_mixed_for_a_whole_utterance() -> None:
    x = torch.randn(40, 7, 50)
    y = ChannelMix(0.5, 0.3)(x, torch.Generator().manual_seed(0))
    factor = (y / x).round(decimals=3)
    assert torch.equal(factor, factor[:, :1].expand_as(factor))  # the same in every frame
    assert factor.unique().tolist() == pytest.approx([0.3, 1.7])  # w, and w + (1 - w) / 0.5
    assert not torch.equal(factor[0], factor[1])
    assert factor.mean().item() == pytest.approx(1.0, abs=0.1)


def test_layers_are_switched_off_front_to_back_over_the_first_two_thirds() -> None:
    policy = build_policy(DropoutConfig(policy="mixed", rate=0.5), SPACE)

    def active(progress: float, spec: SubnetSpec) -> list[bool]:
        plan = policy.plan(spec, progress)
        for layer in plan.layers:  # all sites of a layer together
            assert len({op.strength > 0 for op in (layer.ffn_hidden, *layer.outputs.values())}) == 1
        return [layer.output("ssm").strength > 0 for layer in plan.layers]

    whole = SPACE.max()
    assert active(0.0, whole) == [True] * 3
    assert active(0.21, whole) == [True] * 3
    assert active(0.23, whole) == [False, True, True]
    assert active(0.45, whole) == [False, False, True]
    assert active(0.66, whole) == [False, False, True]
    assert active(0.67, whole) == [False] * 3
    # A layer is switched off by its place in the supernet, independent of the other layers.
    assert active(0.45, SubnetSpec(layers=(0, 2), widths={"ffn_dim": (8, 8)}, mode="offline")) == [
        False,
        True,
    ]


def test_the_rate_follows_the_width() -> None:
    policy = build_policy(DropoutConfig(policy="mixed", rate=0.5), SPACE)
    assert policy.plan(SPACE.max()).layers[0].ffn_hidden == ChannelMix(0.5, 0.3)
    assert policy.plan(SPACE.min()).layers[0].ffn_hidden == ChannelMix(0.5 * 8 / 24, 0.3)
