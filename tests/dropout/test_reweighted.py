"""Adaptive sparsity: eta, the penalty that dropout is, zeros that survive, units that vanish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.nets import CONFIG, MODEL, SPACE, VOCAB_SIZE, make_batch, make_supernet, random_specs, write_lang
from todm.config import DropoutConfig, ReweightedConfig, TrainConfig
from todm.config.check import check
from todm.dropout import build_policy
from todm.dropout.penalties import PENALTIES, build_penalty, keep_probability
from todm.dropout.reweighted import WeightMask, count_ffn_weights, sparsify
from todm.errors import UserError
from todm.extract import extract, live_spec
from todm.nn.feedforward import FeedForward, apply_feed_forward
from todm.nn.supernet import Supernet
from todm.space.cost import count_params

STRENGTH, CONCAVITY, EPSILON, EXPONENT = 0.3, 3.7, 0.05, 0.6
SETTINGS = ReweightedConfig(
    strength=STRENGTH, concavity=CONCAVITY, epsilon=EPSILON, exponent=EXPONENT, tolerance=0.2
)

# The penalties themselves, per lambda, as their papers define them: eta must be w / Omega'(w).
OMEGA: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda w: w,
    "lp": lambda w: w**EXPONENT / EXPONENT,
    "log_sum": lambda w: torch.log(w + EPSILON),
    "log2_sum": lambda w: torch.log(w**2 + EPSILON),
    "mcp": lambda w: torch.where(
        w < CONCAVITY * STRENGTH, w - w**2 / (2 * CONCAVITY * STRENGTH), CONCAVITY * STRENGTH / 2
    ),
    "scad": lambda w: torch.where(
        w <= STRENGTH,
        w,
        torch.where(
            w < CONCAVITY * STRENGTH,
            (2 * CONCAVITY * STRENGTH * w - w**2 - STRENGTH**2) / (2 * (CONCAVITY - 1) * STRENGTH),
            STRENGTH * (CONCAVITY + 1) / 2,
        ),
    ),
}


@pytest.mark.parametrize("name", OMEGA)
def test_eta_is_the_weight_by_the_penalty_s_slope(name: str) -> None:
    w = torch.linspace(0.01, 2.0, 400, requires_grad=True)
    (slope,) = torch.autograd.grad(OMEGA[name](w).sum(), w)
    eta = build_penalty(replace(SETTINGS, penalty=name))(w.detach())
    sizes = w.detach()
    flat = slope == 0
    assert torch.isinf(eta[flat]).all()
    torch.testing.assert_close(eta[~flat], sizes[~flat] / slope[~flat], rtol=1e-3, atol=1e-5)
    assert flat.any() == (name in ("mcp", "scad"))


def test_standout_s_eta_makes_a_the_sigmoid_of_the_weight() -> None:
    sizes = torch.linspace(0.0, 3.0, 20)
    keep = keep_probability(sizes, build_penalty(replace(SETTINGS, penalty="standout")), STRENGTH)
    torch.testing.assert_close(keep, torch.sigmoid(sizes))


@pytest.mark.parametrize("name", PENALTIES)
def test_keep_probability_is_one_that_grows_with_the_weight(name: str) -> None:
    keep = keep_probability(
        torch.linspace(0.0, 5.0, 200), build_penalty(replace(SETTINGS, penalty=name)), STRENGTH
    )
    assert ((keep >= 0) & (keep <= 1)).all() and (keep.diff() >= 0).all()
    assert keep[-1] > keep[0]


@pytest.mark.parametrize("name", PENALTIES)
def test_dropout_is_the_penalty(name: str) -> None:
    """E 0.5 (y - x w m/a)^2 = 0.5 (y - x w)^2 + 0.5 sum (1 - a)/a x^2 w^2, by Monte Carlo."""
    torch.manual_seed(0)
    w = torch.randn(1, 6).double() * 0.7
    x, y = torch.randn(6).double(), 0.4
    penalty = build_penalty(replace(SETTINGS, penalty=name))
    mask = WeightMask(penalty, STRENGTH)
    count = 200000
    ffn = FeedForward(6, count).weights()
    noisy = mask(
        ffn._replace(in_weight=w.expand(count, 6), out_weight=w[:, :1]), torch.Generator().manual_seed(1)
    ).in_weight
    losses = 0.5 * (y - noisy @ x) ** 2
    keep = keep_probability(w.abs(), penalty, STRENGTH)
    wanted = 0.5 * (y - (w @ x)) ** 2 + (0.5 * (1 - keep) / keep * x**2 * w**2).sum()
    error = losses.std() / count**0.5
    assert (losses.mean() - wanted).abs().item() < 5 * error.item()
    assert wanted.item() > 0.5 * (y - (w @ x).item()) ** 2 + 5 * error.item()  # the penalty is no rounding


def test_gradient_descent_with_it_finds_which_inputs_matter() -> None:
    """Ten of twenty weights are 0 in truth; dropout drives them below the tolerance, and only them."""
    torch.manual_seed(0)
    truth = torch.cat((torch.tensor([1.0, -0.8, 0.6, -1.2, 0.9]).repeat(2), torch.zeros(10)))
    x = torch.randn(400, 20)
    y = x @ truth + 0.1 * torch.randn(400)
    config = replace(SETTINGS, strength=0.01, epsilon=1e-3, tolerance=0.1)
    penalty = build_penalty(config)
    mask = WeightMask(penalty, config.strength, floor=config.tolerance)
    generator = torch.Generator().manual_seed(1)
    w = (0.3 * torch.randn(1, 20)).requires_grad_()
    ffn = FeedForward(20, 1).weights()
    for _ in range(3000):
        noisy = mask(ffn._replace(in_weight=w, out_weight=w), generator).in_weight
        (grad,) = torch.autograd.grad(0.5 * ((y - x @ noisy[0]) ** 2).mean(), w)
        with torch.no_grad():
            w -= 0.02 * grad
    small = keep_probability(w.detach().abs(), penalty, config.strength)[0] < config.tolerance
    assert small.tolist() == [False] * 10 + [True] * 10
    # A log penalty hardly shrinks what is large.
    torch.testing.assert_close(w.detach()[0, :10], truth[:10], atol=0.05, rtol=0.0)


def test_what_is_kept_is_scaled_up_to_a_bound() -> None:
    w = torch.full((1, 50000), 1e-3)
    config = replace(SETTINGS, penalty="l1", strength=1.0)
    keep = keep_probability(w, build_penalty(config), 1.0)
    ffn = FeedForward(2, 2).weights()._replace(in_weight=w, out_weight=w[:, :1])
    for floor, largest in ((0.2, 1e-3 / 0.2), (0.0, 1e-3 / keep[0, 0].item())):
        mask = WeightMask(build_penalty(config), 1.0, floor=floor)
        noisy = mask(ffn, torch.Generator().manual_seed(0)).in_weight
        assert noisy.max().item() == pytest.approx(largest, rel=1e-4)
    assert largest > 0.9


@pytest.mark.parametrize("units", [False, True])
def test_masks_keep_the_expectation_and_follow_the_width(units: bool) -> None:
    torch.manual_seed(0)
    config = DropoutConfig(
        policy="reweighted",
        reweighted=replace(SETTINGS, penalty="l1", strength=0.05, units=units, tolerance=0.0),
    )
    policy = build_policy(config, SPACE)
    ffn = FeedForward(4, 6).weights()
    mask = policy.plan(SPACE.max()).layers[0].ffn_weights
    narrow = policy.plan(SPACE.min()).layers[0].ffn_weights
    assert mask is not None and narrow is not None
    assert (mask.strength, narrow.strength) == pytest.approx((0.05, 0.05 * 8 / 24))
    generator = torch.Generator().manual_seed(0)
    draws = [mask(ffn, generator) for _ in range(4000)]
    for name in ("out_weight",) if units else ("in_weight", "out_weight"):
        stack = torch.stack([getattr(draw, name) for draw in draws])
        error = stack.std(0) / len(draws) ** 0.5
        assert ((stack.mean(0) - getattr(ffn, name)).abs() < 5 * error + 1e-6).all()
    if units:  # a hidden unit has all its out-weights or none
        zero = torch.stack([draw.out_weight for draw in draws]) == 0
        assert torch.equal(zero.any(1), zero.all(1)) and zero.any() and not zero.all()


def test_a_weight_of_zero_stays_zero() -> None:
    ffn = FeedForward(4, 6).weights()
    zeros = ffn._replace(in_weight=torch.zeros(6, 4), out_weight=torch.zeros(4, 6))
    for name in PENALTIES:
        mask = WeightMask(build_penalty(replace(SETTINGS, penalty=name)), STRENGTH)
        noisy = mask(zeros, torch.Generator().manual_seed(0))
        assert not noisy.in_weight.any() and not noisy.out_weight.any()


def sparse_supernet(units: bool) -> tuple[Supernet, DropoutConfig]:
    supernet = make_supernet()
    with torch.no_grad():  # some weights, and some whole units, that a strong penalty would have shrunk
        for index, layer in enumerate(supernet.full.encoder_layers):
            layer.ffn.in_proj.weight[::3] *= 1e-4
            layer.ffn.out_proj.weight[:, 1 :: 3 + index] *= 1e-4
            layer.ffn.in_proj.weight[2, ::2] *= 1e-4
    config = DropoutConfig(
        policy="reweighted", reweighted=replace(SETTINGS, penalty="l1", strength=1e-3, units=units)
    )
    return supernet, config


@pytest.mark.parametrize("units", [False, True])
@torch.no_grad()
def test_zeros_are_exact_survive_and_dead_units_are_cut(units: bool) -> None:
    supernet, config = sparse_supernet(units)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    sparsify(supernet.state_dict(), replace(config, policy="constant"))
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    sparsify(supernet.state_dict(), config)
    changed = [name for name, value in supernet.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and all(".ffn." in name and name.endswith("proj.weight") for name in changed)
    nonzero, total = count_ffn_weights(supernet.state_dict())
    assert 0 < nonzero < total

    batch = make_batch([97, 61], [5, 0])
    for spec in random_specs(6):
        net = extract(supernet, spec)
        assert all(
            new < old for new, old in zip(net.spec.width("ffn_dim"), spec.width("ffn_dim"), strict=True)
        )
        assert net.spec == live_spec(supernet, spec)
        assert sum(p.numel() for p in net.parameters()) == count_params(MODEL, net.spec, VOCAB_SIZE)
        for layer in net.encoder_layers:
            assert layer.ffn.in_proj.weight.any(1).all() and layer.ffn.out_proj.weight.any(0).all()
            if not units:
                assert (layer.ffn.in_proj.weight == 0).any()
        out, _ = net.encode(batch.feats, batch.feat_lens)
        torch.testing.assert_close(out, supernet(batch, spec)[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_smaller_net_is_a_smaller_bundle(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from todm.deploy.onnx_export import export_bundle

    supernet, config = sparse_supernet(units=False)
    lang, sizes = write_lang(tmp_path / "lang"), []
    for name in ("dense", "sparse"):
        export_bundle(extract(supernet, SPACE.max()), CONFIG, lang, tmp_path / name)
        sizes.append((tmp_path / name / "encoder.onnx").stat().st_size)
        sparsify(supernet.state_dict(), config)
    # Two of a layer's dims of 24 units, 33 floats each, at least.
    assert sizes[1] < sizes[0] - 3 * 8 * 33 * 4


@torch.no_grad()
def test_all_units_dead_leaves_one() -> None:
    supernet = make_supernet()
    for layer in supernet.full.encoder_layers:
        layer.ffn.out_proj.weight.zero_()
    net = extract(supernet, SPACE.min())
    assert net.spec.width("ffn_dim") == (1,) * net.spec.depth


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"penalty": "l7"}, "penalty.*log_sum"),
        ({"strength": 0.0}, "strength"),
        ({"tolerance": 1.0}, "tolerance"),
        ({"penalty": "lp", "exponent": 2.5}, "exponent"),
        ({"penalty": "log_sum", "epsilon": 0.0}, "epsilon"),
        ({"penalty": "scad", "concavity": 1.0}, "concavity"),
    ],
)
def test_impossible_settings(changes: dict[str, object], key: str) -> None:
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    dropout = DropoutConfig(policy="reweighted", reweighted=settings)
    with pytest.raises(UserError, match=rf"train\.dropout\.reweighted\.{key}"):
        check(replace(CONFIG, train=TrainConfig(dropout=dropout)))


def test_the_pass_uses_the_masked_slice() -> None:
    torch.manual_seed(0)
    ffn = FeedForward(4, 6)
    x = torch.randn(1, 3, 4)
    policy = build_policy(
        DropoutConfig(policy="reweighted", reweighted=replace(SETTINGS, penalty="l1")), SPACE
    )
    layer = policy.plan(SPACE.max()).layers[0]
    assert layer.ffn_weights is not None
    masked = layer.ffn_weights(ffn.weights(), torch.Generator().manual_seed(4))
    wanted: Tensor = apply_feed_forward(x, masked)
    torch.testing.assert_close(
        apply_feed_forward(x, ffn.weights(), layer, torch.Generator().manual_seed(4)), wanted
    )
