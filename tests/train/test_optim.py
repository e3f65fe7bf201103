"""ScaledAdam against a slow reference, its invariants, the clipper, exact resume, and the builder."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from todm.config import Config, OptimConfig, TrainConfig
from todm.config.check import check
from todm.errors import UserError
from todm.train.clipping import MedianClipper
from todm.train.optim import ClippedAdamW, ScaledAdam, build_optimizer, sums_on_gpu


class Reference:
    """ScaledAdam for one tensor in float64, line by line from the formulas; no clipping."""

    def __init__(
        self, theta: Tensor, lr: float, b1: float = 0.9, b2: float = 0.98, eps: float = 1e-8
    ) -> None:
        self.theta = theta.double().clone()
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.v = torch.zeros_like(self.theta)
        self.m = torch.zeros_like(self.theta)
        self.w = 0.0
        self.h: list[float] = []
        self.t = 0

    def step(self, grad: Tensor) -> None:
        g = grad.double()
        self.t += 1
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        unit = -self.lr * g / ((self.v / (1 - self.b2**self.t)).sqrt() + self.eps)
        if self.theta.numel() == 1:
            delta = 0.1 * unit
        else:
            rms = float((self.theta**2).mean().sqrt())
            delta = unit * max(rms, 1e-5)
            self.h.append(float((self.theta * g).sum()))
            if self.t % 4 == 0:
                delta = delta + self._scale_step(rms) * self.theta
        self.m = self.b1 * self.m + (1 - self.b1) * delta
        self.theta = self.theta + self.m
        if self.theta.numel() == 1:
            self.theta = self.theta.clamp(-10, 10)

    def _scale_step(self, rms: float) -> float:
        decay, k = self.b2**4, self.t // 4
        self.w = decay * self.w + (1 - decay) * sum(h * h for h in self.h) / 4
        step = -self.lr * 0.1 * math.sqrt(1 - decay**k) * sum(self.h) / (math.sqrt(self.w) + self.eps)
        self.h = []
        return 0.0 if rms < 1e-5 else min(max(-0.1, min(0.1, step)), (3.0 - rms) / rms)


SHAPES = [(7, 5), (7, 5), (5,), (1,), (), (2, 3, 4), (5,)]


def make_params(seed: int, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def set_grads(params: list[nn.Parameter], generator: torch.Generator) -> None:
    for param in params:
        # Pulled towards 0, so that the learned scale moves one way; noise, so that it also hesitates.
        noise = torch.randn(param.shape, generator=generator, dtype=param.dtype)
        param.grad = 0.3 * param.detach() + 0.2 * noise


@pytest.mark.parametrize("lr", [0.045, 0.5])
def test_agrees_with_the_slow_reference(lr: float) -> None:
    params = make_params(0, torch.float64)
    with torch.no_grad():
        params[1].mul_(1e-9)  # below the smallest RMS
        params[5].mul_(10.0)  # above the largest
        params[3].fill_(9.99)
    references = [Reference(param.detach(), lr) for param in params]
    optimizer = ScaledAdam(params, lr=lr, clipping_scale=math.inf)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        set_grads(params, generator)
        params[3].grad = torch.full_like(params[3], -1.0)  # drives the scalar into its bound
        for reference, param in zip(references, params, strict=True):
            assert param.grad is not None
            reference.step(param.grad)
        optimizer.step()
        for reference, param in zip(references, params, strict=True):
            torch.testing.assert_close(param.detach(), reference.theta, rtol=1e-9, atol=1e-15)
    if lr == 0.5:
        assert params[3].item() == 10.0


def test_update_is_proportional_to_the_rms_and_blind_to_the_gradients_scale() -> None:
    direction, grad = torch.randn(6, 6), torch.randn(6, 6)
    changes = []
    for size, gradient_scale in ((0.01, 1.0), (1.0, 1000.0)):
        param = nn.Parameter(direction * size)
        optimizer = ScaledAdam([param], lr=0.1)
        before = param.detach().clone()
        for _ in range(3):  # the fourth step learns the scale
            param.grad = grad * gradient_scale
            optimizer.step()
        changes.append((param.detach() - before) / size)
    torch.testing.assert_close(changes[0], changes[1], rtol=1e-3, atol=1e-5)
    assert changes[0].abs().max() > 0.01


def test_scaled_groups_shrink_what_is_beyond_the_bound_and_plain_ones_do_not() -> None:
    """Why the SSM's frequencies w_n = pi n need a plain group."""
    frequencies = math.pi * torch.arange(32.0).repeat(16, 1)
    rms = []
    for scaled in (True, False):
        param = nn.Parameter(frequencies.clone())
        optimizer = ScaledAdam([{"params": [param], "scaled": scaled}], lr=1e-3, clipping_scale=math.inf)
        generator = torch.Generator().manual_seed(2)
        for _ in range(16):
            param.grad = torch.randn(param.shape, generator=generator)
            optimizer.step()
        rms.append(param.detach().square().mean().sqrt().item())
    assert frequencies.square().mean().sqrt() > 50
    assert rms[0] < 15
    assert rms[1] == pytest.approx(frequencies.square().mean().sqrt().item(), abs=0.02)


def test_learned_scale_follows_the_gradient() -> None:
    """A gradient along the tensor itself: with it the tensor shrinks, against it it grows."""
    sizes = []
    for sign in (1.0, -1.0):
        param = nn.Parameter(torch.ones(10))
        optimizer = ScaledAdam([param], lr=0.01, clipping_scale=math.inf)
        for _ in range(8):
            noise = torch.tensor([1.0, -1.0]).repeat(5)  # keeps the plain part of the update at 0 on average
            param.grad = sign * 0.1 + 100.0 * noise * (-1.0 if optimizer.param_groups[0]["step"] % 2 else 1.0)
            optimizer.step()
        sizes.append(param.detach().mean().item())
    assert sizes[0] < 1.0 - 1e-4 < 1.0 + 1e-4 < sizes[1]


def test_plain_groups_are_torchs_adam() -> None:
    ours, theirs = make_params(3), make_params(3)
    optimizer = ScaledAdam([{"params": ours, "lr": 1e-2, "scaled": False}], clipping_scale=math.inf)
    adam = torch.optim.Adam(theirs, lr=1e-2, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        set_grads(ours, generator)
        for a, b in zip(ours, theirs, strict=True):
            b.grad = a.grad.clone() if a.grad is not None else None
        optimizer.step()
        adam.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_missing_gradient_is_a_gradient_of_zeros() -> None:
    first, second = make_params(5), make_params(5)
    one, two = ScaledAdam(first, lr=0.1), ScaledAdam(second, lr=0.1)
    generator = torch.Generator().manual_seed(6)
    for step in range(12):
        set_grads(first, generator)
        for a, b in zip(first, second, strict=True):
            b.grad = a.grad.clone() if a.grad is not None else None
        if step % 3 == 2:
            first[0].grad = None
            second[0].grad = torch.zeros_like(second[0])
        one.step()
        two.step()
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def build(name: str, params: list[nn.Parameter]) -> ScaledAdam | ClippedAdamW:
    config = OptimConfig(name=name, lr=0.05)  # type: ignore[arg-type]
    named = [(f"ssm.{i}" if i in (1, 2) else f"p.{i}", param) for i, param in enumerate(params)]
    return build_optimizer(config, named, lambda parameter: parameter.startswith("ssm."))


@pytest.mark.parametrize("name", ["scaled_adam", "adamw"])
@pytest.mark.parametrize("cut", [5, 13, 104])
def test_resume_is_bit_exact(name: str, cut: int) -> None:
    """Interrupted at `cut` and gone on = never interrupted; clipping and half a scale period included."""

    def train(
        params: list[nn.Parameter], optimizer: ScaledAdam | ClippedAdamW, first: int, last: int
    ) -> None:
        for step in range(first, last):
            set_grads(params, torch.Generator().manual_seed(step))
            for param in params:
                assert param.grad is not None
                param.grad.mul_(50.0 if step % 7 == 6 else 1.0)  # spikes, to be clipped
            optimizer.step()

    whole = make_params(7)
    optimizer = build(name, whole)
    train(whole, optimizer, 0, cut)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = [nn.Parameter(param.detach().clone()) for param in whole]
    continued = build(name, resumed)
    continued.load_state_dict(torch.load(file, weights_only=True))
    train(whole, optimizer, cut, cut + 21)
    train(resumed, continued, cut, cut + 21)
    assert optimizer.clipper.num_clipped > 0
    assert continued.clipper.state_dict() == optimizer.clipper.state_dict()
    for a, b in zip(whole, resumed, strict=True):
        assert torch.equal(a, b)


def test_state_dict_round_trip_changes_no_bit() -> None:
    params = make_params(8)
    optimizer = build("scaled_adam", params)
    for step in range(6):
        set_grads(params, torch.Generator().manual_seed(step))
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    other = build("scaled_adam", make_params(8))
    other.load_state_dict(before)
    after = other.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["clipping"] == before["clipping"]
    for index, state in before["state"].items():
        for key, value in state.items():
            again = after["state"][index][key]
            assert torch.equal(value, again) if isinstance(value, Tensor) else value == again


@pytest.mark.parametrize("name", ["scaled_adam", "adamw"])
def test_spike_is_scaled_down_to_the_threshold(name: str) -> None:
    """A spike has the effect of a gradient already brought to the threshold."""
    spiked, tamed = make_params(9), make_params(9)
    one, two = build(name, spiked), build(name, tamed)
    for step in range(20):
        for params, optimizer in ((spiked, one), (tamed, two)):
            set_grads(params, torch.Generator().manual_seed(step))
            optimizer.step()
    threshold = one.clipper.threshold
    assert math.isfinite(threshold) and one.clipper.num_clipped == 0
    set_grads(spiked, torch.Generator().manual_seed(99))
    for param in spiked:
        param.grad.mul_(1000.0)  # type: ignore[union-attr]
    grads = [param.grad.clone() for param in spiked]  # type: ignore[union-attr]
    one.step()
    assert one.clipper.num_clipped == 1 and one.clipper.last_norm > 100 * threshold
    for param, grad in zip(tamed, grads, strict=True):
        param.grad = grad * (threshold / one.clipper.last_norm)
    two.step()
    assert two.clipper.last_norm == pytest.approx(threshold, rel=1e-5)
    for a, b in zip(spiked, tamed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_clipping_norm_is_of_gradient_times_rms() -> None:
    a, b, scalar, ssm = (nn.Parameter(torch.full(shape, 2.0)) for shape in ((3, 4), (5,), (1,), (6,)))
    groups: list[dict[str, Any]] = [{"params": [a, b, scalar]}, {"params": [ssm], "scaled": False}]
    optimizer = ScaledAdam(groups, lr=0.01)
    a.grad, b.grad = torch.full((3, 4), 0.5), torch.full((5,), 1.0)
    scalar.grad, ssm.grad = torch.tensor([3.0]), torch.full((6,), 1e3)
    optimizer.step()
    assert optimizer.clipper.last_norm == pytest.approx(math.sqrt(12 * 1.0**2 + 5 * 2.0**2 + 3.0**2))


@pytest.mark.parametrize("name", ["scaled_adam", "adamw"])
@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_gradient_changes_nothing(name: str, where: int, bad: float) -> None:
    params = make_params(10)
    optimizer = build(name, params)
    set_grads(params, torch.Generator().manual_seed(0))
    optimizer.step()
    weights = [param.detach().clone() for param in params]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    params[where].grad[0, 0] = bad  # type: ignore[index]
    optimizer.step()
    assert optimizer.clipper.num_skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(weights, params, strict=True))
    for index, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            assert torch.as_tensor(value).equal(torch.as_tensor(state[index][key])), (index, key)


def test_clipper_follows_the_median_of_the_window() -> None:
    clipper = MedianClipper(2.0, window=5, min_history=3)
    assert [clipper.factor(norm) for norm in (1.0, 100.0, 1.0)] == [1.0, 1.0, 1.0]
    assert clipper.factor(8.0) == pytest.approx(2.0 / 8.0)
    assert clipper.threshold == pytest.approx(2 * 4.5)  # of 1, 100, 1, 8: the norm before clipping counts
    for _ in range(4):
        assert clipper.factor(8.0) == 1.0
    assert clipper.threshold == 16.0
    assert clipper.factor(math.nan) == 0.0
    assert clipper.threshold == 16.0
    assert (clipper.num_clipped, clipper.num_skipped) == (1, 1)


def test_clipper_does_not_freeze_after_zero_gradients() -> None:
    clipper = MedianClipper(2.0, min_history=2)
    for _ in range(5):
        clipper.factor(0.0)
    assert clipper.factor(3.0) == 1.0


def test_groups_of_the_builder() -> None:
    params = make_params(11)
    params[6].requires_grad_(False)
    scaled = build("scaled_adam", params)
    assert [(g["name"], g["scaled"], g["lr"], len(g["params"])) for g in scaled.param_groups] == [
        ("main", True, 0.05, 4),
        ("ssm", False, 1e-3, 2),
    ]
    adamw = build("adamw", params)
    assert [(g["name"], g["weight_decay"], g["base_lr"], len(g["params"])) for g in adamw.param_groups] == [
        ("main", 0.01, 0.05, 2),
        ("no_decay", 0.0, 0.05, 2),
        ("ssm", 0.0, 1e-3, 2),
    ]


@pytest.mark.parametrize(
    ("key", "value"), [("lr", 0.0), ("ssm_lr", -1.0), ("betas", (0.9, 1.0)), ("weight_decay", -0.1)]
)
def test_impossible_settings_name_their_key(key: str, value: object) -> None:
    optim = OptimConfig(**{key: value})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"train.optim.{key}"):
        check(Config(train=TrainConfig(optim=optim)))


def test_learns_a_regression_better_than_it_started() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    inputs = torch.randn(64, 8)
    targets = inputs[:, :1] * inputs[:, 1:2]
    optimizer = ScaledAdam(net.parameters(), lr=0.03)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (net(inputs) - targets).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_numbers_of_a_gpu_in_few_launches_are_those_of_each_tensor() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (), (7,), (2, 2, 5)]
    params, grads = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    expected = [x.norm().item() for x in (*params, *grads)]
    expected += [(param * grad).sum().item() for param, grad in zip(params, grads, strict=True)]
    assert sums_on_gpu(params, grads) == pytest.approx(expected, rel=1e-5)
