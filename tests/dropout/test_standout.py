"""Standout: what is kept, what evaluation computes, and that extraction, ONNX and the costs carry it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_batch, make_supernet, random_specs, write_lang
from todm.config import Config, DropoutConfig, DropoutScheduleConfig, ModelConfig, load_config
from todm.dropout import build_policy
from todm.dropout.standout import SampledGate
from todm.errors import UserError
from todm.extract import extract
from todm.nn.dropout import LayerDropout
from todm.nn.feedforward import FeedForward, apply_feed_forward
from todm.space.cost import count_params

Form = Literal["tied", "learned"]


def gated(form: Form) -> ModelConfig:
    return replace(MODEL, ffn_gate=form, ffn_gate_scale=1.3, ffn_gate_bias=0.4)


def test_a_unit_is_kept_as_often_as_its_pre_activation_says() -> None:
    torch.manual_seed(0)
    z = torch.linspace(-4.0, 4.0, 9)
    keep = torch.sigmoid(1.3 * z + 0.4)
    count = 20000
    mask = SampledGate(1.0)(keep.expand(count, 9), torch.Generator().manual_seed(1))
    assert set(mask.round(decimals=5).unique().tolist()) == {0.0, 1.0}
    sigma = (keep * (1 - keep) / count).sqrt()
    assert ((mask.mean(0) - keep).abs() < 5 * sigma + 2**-16).all()


@pytest.mark.parametrize("form", ["tied", "learned"])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_evaluation_is_the_expectation_of_training_passes(form: Form, strength: float) -> None:
    """Exact for one feed-forward, whose output is linear in the mask."""
    torch.manual_seed(0)
    ffn = FeedForward(6, 20, form, 1.3, 0.4)
    x = torch.randn(1, 3, 6)
    wanted = ffn(x)
    noise = LayerDropout(ffn_gate=SampledGate(strength))
    generator = torch.Generator().manual_seed(2)
    count = 20000
    with torch.no_grad():
        outs = apply_feed_forward(x.expand(count, 3, 6), ffn.weights(), noise, generator)
        error = outs.std(0) / count**0.5
        assert (outs.std(0) > 1e-3).all()
        assert ((outs.mean(0) - wanted[0]).abs() < 5 * error).all()


def test_the_gradient_is_that_of_the_expectation() -> None:
    keep = torch.tensor([0.2, 0.7], requires_grad=True)
    SampledGate(1.0)(keep, torch.Generator().manual_seed(0)).sum().backward()
    assert keep.grad is not None and keep.grad.tolist() == [1.0, 1.0]


def test_units_of_a_narrow_net_are_kept_as_in_the_whole() -> None:
    plan = build_policy(DropoutConfig(policy="standout", rate=0.2), SPACE).plan(SPACE.min())
    assert all(layer.ffn_gate == SampledGate(1.0) for layer in plan.layers)
    assert plan.layers[0].ffn_hidden.strength == 0.0
    assert plan.layers[0].output("ffn").strength == pytest.approx(0.2 * 8 / 24)


def test_a_schedule_takes_the_noise_and_leaves_the_gate() -> None:
    config = DropoutConfig(policy="standout", rate=0.0, schedule=DropoutScheduleConfig(name="linear"))
    policy = build_policy(config, SPACE)
    net = make_supernet(model=gated("tied"))
    batch, spec = make_batch([60], [3]), SPACE.max()
    with torch.no_grad():
        plain = net(batch, spec)[0]
        first, last = (
            net(batch, spec, policy.plan(spec, progress), torch.Generator().manual_seed(0))[0]
            for progress in (0.0, 1.0)
        )
    assert not torch.allclose(first, plain)
    torch.testing.assert_close(last, plain)


@pytest.mark.parametrize("form", ["tied", "learned"])
@torch.no_grad()
def test_extracted_nets_have_the_gate_and_cost_what_they_should(form: Form) -> None:
    model = gated(form)
    net, batch = make_supernet(model=model), make_batch([97, 61], [5, 0])
    for layer in net.full.encoder_layers:
        assert layer.ffn.gate_scale is not None
        layer.ffn.gate_scale.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(3))
        if form == "tied":
            layer.ffn.gate_scale.fill_(1.3)
    ungated = make_supernet()
    ungated.load_state_dict(net.state_dict(), strict=False)
    for spec in random_specs(3):
        plain = extract(net, spec)
        wanted = net(batch, spec)[0]
        torch.testing.assert_close(
            plain.encode(batch.feats, batch.feat_lens)[0], wanted, atol=1e-5, rtol=1e-5
        )
        assert sum(p.numel() for p in plain.parameters()) == count_params(model, spec, VOCAB_SIZE)
        assert not torch.allclose(ungated(batch, spec)[0], wanted, atol=1e-2)


@pytest.mark.parametrize("form", ["tied", "learned"])
@pytest.mark.parametrize("mode", ["offline", "streaming"])
@torch.no_grad()
def test_onnx_has_the_gate(form: Form, mode: Literal["offline", "streaming"], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from todm.deploy.onnx_export import export_bundle
    from todm.runtime.bundle import open_bundle

    model = gated(form)
    net = extract(make_supernet(model=model), SPACE.mid(mode))
    export_bundle(net, Config(model=model), write_lang(tmp_path / "lang"), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    feats = make_batch([35], [1]).feats
    wanted = net.encode(feats, torch.tensor([35]))[0].numpy()
    if mode == "offline":
        out, _ = bundle.encode(feats.numpy(), np.array([35]))
    else:
        out, _ = bundle.encode_chunk(feats.numpy(), bundle.init_states(1))
    np.testing.assert_allclose(out, wanted, atol=1e-4)


def test_standout_without_a_gate_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.ffn_gate"):
        load_config(None, ["--train.dropout.policy", "standout"])
    load_config(None, ["--train.dropout.policy", "standout", "--model.ffn_gate", "tied"])
