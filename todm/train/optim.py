"""ScaledAdam (Zipformer, Yao et al., arXiv 2310.11230, section 3.5) and the builder of optimisers.

Legend: theta a parameter tensor, g its gradient, rms(theta) the root mean square of its elements,
v the second moment of g, m the momentum (of the *update*, not of g), h = sum(theta * g) the gradient of
the loss with respect to the log of the tensor's scale, w the second moment of h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, segment_reduce
from torch.optim import AdamW, Optimizer

from todm.config import OptimConfig
from todm.train.clipping import MedianClipper

SCALE_PERIOD = 4  # steps between two updates of the learned scale
SCALE_LR = 0.1  # learning rate of scales and of one-element tensors, relative to the group's
MAX_SCALE_STEP = 0.1
MIN_RMS = 1e-5
MAX_RMS = 3.0
MAX_SCALAR = 10.0


class ScaledAdam(Optimizer):
    """Adam whose update of each tensor is proportional to the tensor's RMS, and which learns that RMS.

    Per tensor and step (t counts from 1)::

        v      = b2 v + (1 - b2) g^2
        delta  = -lr g / (sqrt(v / (1 - b2^t)) + eps) * max(rms(theta), 1e-5)
        every 4 steps (k-th time), over the h of those 4 steps:
            w      = b2^4 w + (1 - b2^4) mean(h^2)
            s      = -0.1 lr sqrt(1 - b2^(4k)) sum(h) / (sqrt(w) + eps)
            s      = 0 if rms(theta) < 1e-5 else min(clamp(s, -0.1, 0.1), (3 - rms(theta)) / rms(theta))
            delta += s theta
        m      = b1 m + (1 - b1) delta ;  theta += m

    One-element tensors: delta = -0.1 lr g / (...), no learned scale, theta clamped to +-10.
    Groups with ``scaled=False`` run plain Adam (bias-corrected, no decay): the SSM's own parameters have
    an RMS far above 3 and would be shrunk.

    Before the update all gradients are scaled down together where the norm of g * rms(theta) (g itself for
    one-element tensors) over the scaled groups exceeds ``clipping_scale`` times its recent median; a step
    with a gradient that is not finite changes nothing and is counted in ``clipper.num_skipped``. A missing
    gradient counts as zeros: momentum still moves the tensor.

    The numbers kept per tensor (sum of h, w) are Python floats, read from the device once per step, so
    that the tensors themselves are touched by multi-tensor (foreach) operations only.

    Args:
        params: parameters or group dicts; a group may set ``lr``, ``betas``, ``eps`` and ``scaled``.
        lr: learning rate, relative change per step of a scaled tensor; positive.
        betas: decay of momentum b1 and of second moments b2, each 0 to below 1.
        eps: added to denominators.
        scaled: default of the groups' switch.
        clipping_scale: threshold as a multiple of the median norm; ``math.inf`` never clips.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.03,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        scaled: bool = True,
        clipping_scale: float = 2.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "scaled": scaled})
        self.clipper = MedianClipper(clipping_scale)
        for group in self.param_groups:
            group.setdefault("step", 0)
            group["betas"] = tuple(group["betas"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters from their ``grad``; returns what `closure` returned, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [group for group in self.param_groups if group["params"]]
        grads = [_gradients(group["params"]) for group in groups]
        measures = [
            _measure(group["params"], group_grads) for group, group_grads in zip(groups, grads, strict=True)
        ]
        factor = self.clipper.factor(_joint_norm(groups, measures))
        if factor == 0.0:
            return loss
        for group, group_grads, measure in zip(groups, grads, measures, strict=True):
            group["step"] += 1
            if group["scaled"]:
                self._scaled_update(group, group_grads, measure, factor)
            else:
                self._adam_update(group, group_grads, factor)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return `torch.optim.Optimizer.state_dict` with the clipper's state added."""
        return {**super().state_dict(), "clipping": self.clipper.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        super().load_state_dict(state_dict)
        self.clipper.load_state_dict(state_dict["clipping"])

    def _second_moment(self, group: dict[str, Any], grads: list[Tensor], factor: float) -> list[Tensor]:
        """Update v with the clipped gradients; returns sqrt(v) + eps sqrt(1 - b2^t), new tensors."""
        b2 = group["betas"][1]
        moments = []
        for param in group["params"]:
            state = self.state[param]
            if not state:
                state["momentum"] = torch.zeros_like(param, memory_format=torch.contiguous_format)
                state["second_moment"] = torch.zeros_like(param, memory_format=torch.contiguous_format)
                if group["scaled"]:
                    state.update({"h_sum": 0.0, "h_square_sum": 0.0, "h_moment": 0.0})
            moments.append(state["second_moment"])
        torch._foreach_mul_(moments, b2)
        torch._foreach_addcmul_(moments, grads, grads, (1 - b2) * factor * factor)
        denominators = torch._foreach_sqrt(moments)
        torch._foreach_add_(denominators, group["eps"] * math.sqrt(1 - b2 ** group["step"]))
        return list(denominators)

    def _scaled_update(
        self, group: dict[str, Any], grads: list[Tensor], measure: _Measure, factor: float
    ) -> None:
        params: list[Tensor] = group["params"]
        b1, b2 = group["betas"]
        lr, step = group["lr"], group["step"]
        denominators = self._second_moment(group, grads, factor)
        # (1 - b1) comes from the momentum, sqrt(1 - b2^t) from v's bias correction, factor from clipping.
        common = -lr * (1 - b1) * math.sqrt(1 - b2**step) * factor
        values = [
            common * (SCALE_LR if param.numel() == 1 else max(rms, MIN_RMS))
            for param, rms in zip(params, measure.rms, strict=True)
        ]
        momenta = [self.state[param]["momentum"] for param in params]
        torch._foreach_mul_(momenta, b1)
        torch._foreach_addcdiv_(momenta, grads, denominators, values)
        scale_steps = self._learn_scales(group, measure, factor)
        if scale_steps is not None:
            growth = torch._foreach_mul(params, [(1 - b1) * scale_step for scale_step in scale_steps])
            torch._foreach_add_(momenta, growth)
        torch._foreach_add_(params, momenta)
        for param in params:
            if param.numel() == 1:
                param.clamp_(-MAX_SCALAR, MAX_SCALAR)

    def _learn_scales(self, group: dict[str, Any], measure: _Measure, factor: float) -> list[float] | None:
        """Collect h; every `SCALE_PERIOD` steps, the relative change of each tensor's scale."""
        due = group["step"] % SCALE_PERIOD == 0
        decay = group["betas"][1] ** SCALE_PERIOD
        rate = (
            -group["lr"] * SCALE_LR * math.sqrt(1 - decay ** (group["step"] // SCALE_PERIOD)) if due else 0.0
        )
        scale_steps = []
        for param, rms, dot in zip(group["params"], measure.rms, measure.dots, strict=True):
            if param.numel() == 1:
                scale_steps.append(0.0)
                continue
            state = self.state[param]
            state["h_sum"] += factor * dot
            state["h_square_sum"] += (factor * dot) ** 2
            if not due:
                continue
            mean_square = state["h_square_sum"] / SCALE_PERIOD
            state["h_moment"] = decay * state["h_moment"] + (1 - decay) * mean_square
            scale_step = rate * state["h_sum"] / (math.sqrt(state["h_moment"]) + group["eps"])
            scale_step = max(-MAX_SCALE_STEP, min(MAX_SCALE_STEP, scale_step))
            scale_steps.append(0.0 if rms < MIN_RMS else min(scale_step, (MAX_RMS - rms) / rms))
            state["h_sum"] = state["h_square_sum"] = 0.0
        return scale_steps if due else None

    def _adam_update(self, group: dict[str, Any], grads: list[Tensor], factor: float) -> None:
        """Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1) on the clipped gradients."""
        b1, b2 = group["betas"]
        step = group["step"]
        denominators = self._second_moment(group, grads, factor)
        momenta = [self.state[param]["momentum"] for param in group["params"]]
        torch._foreach_mul_(momenta, b1)
        torch._foreach_add_(momenta, grads, alpha=(1 - b1) * factor)
        rate = -group["lr"] * math.sqrt(1 - b2**step) / (1 - b1**step)
        torch._foreach_addcdiv_(group["params"], momenta, denominators, rate)


class _Measure:
    """Per-tensor numbers of one group: RMS of theta, L2 norm of g, and sum of theta * g."""

    def __init__(self, rms: list[float], grad_norms: list[float], dots: list[float]) -> None:
        self.rms = rms
        self.grad_norms = grad_norms
        self.dots = dots


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [param.grad if param.grad is not None else torch.zeros_like(param) for param in params]


def _measure(params: list[Tensor], grads: list[Tensor]) -> _Measure:
    """Compute the group's numbers and bring them to the host in one transfer."""
    if params[0].is_cuda:
        numbers = sums_on_gpu(params, grads)
    else:
        dots = [torch.dot(p.reshape(-1), g.reshape(-1)) for p, g in zip(params, grads, strict=True)]
        numbers = torch.stack([*torch._foreach_norm(params), *torch._foreach_norm(grads), *dots]).tolist()
    count = len(params)
    rms = [norm / math.sqrt(param.numel()) for norm, param in zip(numbers, params, strict=False)]
    return _Measure(rms, numbers[count : 2 * count], numbers[2 * count :])


def sums_on_gpu(params: list[Tensor], grads: list[Tensor]) -> list[float]:
    """Compute norms of all parameters and gradients, and all dot products, in a few launches."""
    theta = torch.cat([param.reshape(-1) for param in params])
    g = torch.cat([grad.reshape(-1) for grad in grads])
    ends = torch.tensor([0, *accumulate(param.numel() for param in params)], device=theta.device)
    sums = [segment_reduce(x, "sum", offsets=ends) for x in (theta.square(), g.square(), theta * g)]
    numbers: list[float] = torch.cat([sums[0].sqrt(), sums[1].sqrt(), sums[2]]).tolist()
    return numbers


def _joint_norm(groups: list[dict[str, Any]], measures: list[_Measure]) -> float:
    """Compute the norm of g * rms over the scaled groups; not finite if any gradient is not.

    The plain groups are left out: their parameters' RMS is no measure of a good step size. With plain groups
    only it is the norm of g.
    """
    scaled = plain = 0.0
    for group, measure in zip(groups, measures, strict=True):
        for param, rms, norm in zip(group["params"], measure.rms, measure.grad_norms, strict=True):
            if group["scaled"]:
                scaled += (norm if param.numel() == 1 else norm * rms) ** 2
            else:
                plain += norm * norm
    if not math.isfinite(plain):
        return plain
    return math.sqrt(scaled if any(group["scaled"] for group in groups) else plain)


class ClippedAdamW(AdamW):
    """torch's AdamW with `MedianClipper` on the global norm of g before each step.

    As in `ScaledAdam`, a step with a gradient that is not finite changes nothing.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, clipping_scale: float, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.clipper = MedianClipper(clipping_scale)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Clip in place, then update; returns what `closure` returned, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms: list[float] = torch.stack(torch._foreach_norm(grads)).tolist() if grads else []
        factor = self.clipper.factor(math.sqrt(sum(norm * norm for norm in norms)))
        if factor == 0.0:
            return loss
        if factor != 1.0:
            torch._foreach_mul_(grads, factor)
        super().step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return `torch.optim.Optimizer.state_dict` with the clipper's state added."""
        return {**super().state_dict(), "clipping": self.clipper.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        super().load_state_dict(state_dict)
        self.clipper.load_state_dict(state_dict["clipping"])


def build_optimizer(
    config: OptimConfig,
    named_parameters: Iterable[tuple[str, Tensor]],
    is_ssm: Callable[[str], bool],
) -> ScaledAdam | ClippedAdamW:
    """Build the optimiser of a run.

    Every group carries ``name`` and ``base_lr``, which the schedule multiplies. The SSM's own parameters
    run plain Adam at ``ssm_lr`` without decay in both cases.

    Args:
        config: names, rates and betas.
        named_parameters: as from ``module.named_parameters()``; those that need no gradient are left out.
        is_ssm: whether a parameter of that name belongs to the SSM group (A, dt).
    """
    named = [(name, param) for name, param in named_parameters if param.requires_grad]
    ssm = [param for name, param in named if is_ssm(name)]
    rest = [param for name, param in named if not is_ssm(name)]
    if config.name == "scaled_adam":
        groups = [
            _group("main", rest, config.lr, scaled=True),
            _group("ssm", ssm, config.ssm_lr, scaled=False),
        ]
        return ScaledAdam(
            [group for group in groups if group["params"]],
            betas=config.betas,
            clipping_scale=config.clipping_scale,
        )
    decayed = [param for param in rest if param.ndim >= 2]
    others = [param for param in rest if param.ndim < 2]
    groups = [
        _group("main", decayed, config.lr, weight_decay=config.weight_decay),
        _group("no_decay", others, config.lr, weight_decay=0.0),
        _group("ssm", ssm, config.ssm_lr, weight_decay=0.0),
    ]
    return ClippedAdamW(
        [group for group in groups if group["params"]],
        betas=config.betas,
        clipping_scale=config.clipping_scale,
    )


def _group(name: str, params: list[Tensor], lr: float, **extra: Any) -> dict[str, Any]:
    return {"name": name, "params": params, "lr": lr, "base_lr": lr, **extra}
