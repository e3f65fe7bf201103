"""What a training step costs, on random batches: by parts, beside the largest net alone, beside other losses.

Works that are compared run in turn, round by round, so that a machine's moods fall on all of them; medians
count. Letters: N batch, T feature frames, U labels, V vocabulary, J joiner dim, C channels.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from todm.config import Config
from todm.data.batch import Batch
from todm.dropout import build_policy
from todm.errors import UserError
from todm.kernels import gpu
from todm.losses.rnnt import rnnt_loss
from todm.nn.joiner import Joiner
from todm.nn.ssm import DiagonalSsm, block_frames, block_operators, convolve, convolve_fft
from todm.nn.ssm_scan import scan, scan_operators
from todm.nn.supernet import Supernet, is_ssm_parameter
from todm.runtime.constants import FRAME_SECONDS, NUM_MEL_BINS
from todm.space.sandwich import draw_specs
from todm.space.space import SearchSpace
from todm.train.optim import build_optimizer
from todm.train.step import PART, SandwichStep

Work = Callable[[], None]

LOSSES = ("native", "k2", "torchaudio")
STEPS_IN_A_ROW = 5
"""On a GPU, which may have work from one step when the next begins."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one work.

    Args:
        seconds: of every round.
        peak_bytes: most that its tensors took at once, beyond what stood before it.
    """

    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"median_seconds": self.median, "seconds": list(self.seconds), "peak_bytes": self.peak_bytes}


@dataclass(frozen=True, kw_only=True)
class BatchShape:
    """A batch of equally long utterances.

    Args:
        utterances: N.
        frames: T, of 10 ms.
        labels: U.
        vocab_size: V.
    """

    utterances: int = 4
    frames: int = 1000
    labels: int = 40
    vocab_size: int = 500

    @property
    def hours(self) -> float:
        """Of audio."""
        return self.utterances * self.frames * FRAME_SECONDS / 3600

    def draw(self, device: torch.device) -> Batch:
        """Random features of the range that log-mel energies have, and random labels."""
        generator = torch.Generator().manual_seed(0)
        count = self.utterances
        feats = torch.randn(count, self.frames, NUM_MEL_BINS, generator=generator) * 3.0 - 7.0
        return Batch(
            feats=feats,
            feat_lens=torch.full((count,), self.frames),
            labels=torch.randint(1, self.vocab_size, (count, self.labels), generator=generator),
            label_lens=torch.full((count,), self.labels),
            texts=("",) * count,
            ids=tuple(map(str, range(count))),
        ).to(device)


def bench_step(config: Config, shape: BatchShape, device: torch.device, num_rounds: int) -> dict[str, Any]:
    """The sandwich step as `config` has it, after all its warm-ups, beside the largest net's own step.

    Returns:
        ``max`` (the teacher alone), ``sandwich`` (a step, specs drawn anew in every round) and ``apart``
        (its specs one by one, nothing shared): `Cost.to_dict`, forward and backward; ``optimizer``;
        ``sandwich_to_max`` and ``apart_to_max``, ratios of medians; ``steps``, of so many whole steps one
        after the other, optimiser included, as ``steps_in_a_row`` says, and ``hours_per_hour`` of them;
        ``parts``: seconds of one sandwich step by part (on a GPU those of its kernels); ``gpu_busy``: the
        share of such steps' time in which a GPU has something to do, None without one; ``parameters`` of the
        max net.
    """
    net, works = prepare_steps(config, shape, device)
    optimizer = build_optimizer(config.train.optim, net.named_parameters(), is_ssm_parameter)
    costs = measure(works, device, num_rounds)
    update = measure({"optimizer": optimizer.step}, device, num_rounds)["optimizer"]

    def whole_step() -> None:
        works["sandwich"]()
        with record_function(f"{PART}optimiser"):
            optimizer.step()

    def steps() -> None:
        for _ in range(num_steps):
            whole_step()

    num_steps = STEPS_IN_A_ROW if device.type == "cuda" else 1
    in_a_row = measure({"steps": steps}, device, num_rounds)["steps"]
    return {
        "parameters": sum(parameter.numel() for parameter in net.full.parameters()),
        **{name: cost.to_dict() for name, cost in costs.items()},
        "optimizer": update.to_dict(),
        "sandwich_to_max": costs["sandwich"].median / costs["max"].median,
        "apart_to_max": costs["apart"].median / costs["max"].median,
        "steps": in_a_row.to_dict(),
        "steps_in_a_row": num_steps,
        "hours_per_hour": shape.hours * num_steps / in_a_row.median * 3600,
        "parts": split_parts(whole_step, device),
        "gpu_busy": busy_share(steps, device) if device.type == "cuda" else None,
    }


def prepare_steps(
    config: Config, shape: BatchShape, device: torch.device
) -> tuple[Supernet, dict[str, Work]]:
    """A net with random weights and the works ``max``, ``sandwich`` and ``apart``, see `bench_step`."""
    space = SearchSpace.from_config(config)
    torch.manual_seed(0)
    net = Supernet(config.model, space, shape.vocab_size).to(device)
    settled = replace(config.train.loss, alignment_warmup_steps=0, warmup_steps=0)
    settings = replace(
        config.train,
        loss=settled,
        distill=replace(config.train.distill, warmup_steps=0),
        contrastive=replace(config.train.contrastive, steps=0),
    )
    step_fn = SandwichStep(net, settings, build_policy(config.train.dropout, space))
    batch = shape.draw(device)
    generator = torch.Generator(device=device).manual_seed(0)
    rounds = iter(range(10**9))
    rule = replace(config.train.sandwich, student_interval=1)  # a step without students is the work ``max``

    def draw() -> tuple[Any, ...]:
        return draw_specs(space, rule, seed=0, step=next(rounds))

    def run(specs: tuple[Any, ...]) -> None:
        step_fn(batch, specs, step=0, generator=generator)

    def apart() -> None:
        for spec in draw():
            run((spec,))

    def afresh(work: Work) -> Work:
        def with_new_gradients() -> None:
            net.zero_grad(set_to_none=True)
            work()

        return with_new_gradients

    return net, {
        "max": afresh(lambda: run((space.max(),))),
        "sandwich": afresh(lambda: run(draw())),
        "apart": afresh(apart),
    }


def bench_losses(
    shape: BatchShape, joiner_dim: int, prune_range: int, device: torch.device, num_rounds: int
) -> dict[str, Any]:
    """The transducer loss by every backend that is installed: joiner, smoothed loss and pruning included.

    Args:
        shape: its `frames` are encoder frames here.
        joiner_dim: J.
        prune_range: S.
        device: where.
        num_rounds: at least 1.

    Returns:
        `Cost.to_dict` of value and gradient by backend; ``missing``: why a backend was left out.
    """
    torch.manual_seed(0)
    joiner = Joiner(joiner_dim, shape.vocab_size).to(device)
    simple_am_proj, simple_lm_proj = (nn.Linear(joiner_dim, shape.vocab_size).to(device) for _ in range(2))
    batch = shape.draw(device)
    encoder_out = torch.randn(shape.utterances, shape.frames, joiner_dim, device=device, requires_grad=True)
    predictor_out = torch.randn(
        shape.utterances, shape.labels + 1, joiner_dim, device=device, requires_grad=True
    )

    def work(backend: str) -> Work:
        def run() -> None:
            for tensor in (encoder_out, predictor_out, *joiner.parameters()):
                tensor.grad = None
            pruned = backend != "torchaudio"
            loss = rnnt_loss(
                encoder_out=encoder_out,
                predictor_out=predictor_out,
                join=joiner,
                labels=batch.labels,
                encoder_lens=batch.feat_lens,
                label_lens=batch.label_lens,
                am=simple_am_proj(encoder_out) if pruned else None,
                lm=simple_lm_proj(predictor_out) if pruned else None,
                prune_range=prune_range,
                with_log_probs=False,
                backend=backend,
            )
            torch.autograd.backward((loss.pruned + loss.simple).sum() if pruned else loss.pruned.sum())

        return run

    works: dict[str, Work] = {}
    missing: dict[str, str] = {}
    for backend in LOSSES:
        try:
            work(backend)()
        except UserError as error:
            missing[backend] = str(error)
        else:
            works[backend] = work(backend)
    costs = measure(works, device, num_rounds)
    return {**{name: cost.to_dict() for name, cost in costs.items()}, "missing": missing}


def bench_convolution(
    num_channels: int, state_dim: int, lengths: tuple[int, ...], device: torch.device, num_rounds: int
) -> dict[str, Any]:
    """The SSM in blocks, by FFT and, on a GPU, by scan; its matrices included, value and gradient, by frames.

    Args:
        num_channels: C, half of them backward.
        state_dim: S.
        lengths: encoder frames of one utterance.
        device: where.
        num_rounds: at least 1.
    """
    torch.manual_seed(0)
    ssm = DiagonalSsm(num_channels, state_dim, [(0.03, 3.0)]).to(device)
    results = {}
    for length in lengths:
        u = torch.randn(4, length, num_channels, device=device, requires_grad=True)

        def in_blocks(u: Tensor = u) -> None:
            operators = block_operators(ssm.coefficients(), block_frames(u.shape[1]))
            convolve(u, operators, num_forward=num_channels // 2).sum().backward()

        def by_fft(u: Tensor = u) -> None:
            convolve_fft(u, ssm.coefficients(), num_forward=num_channels // 2).sum().backward()

        def by_scan(u: Tensor = u) -> None:
            scan(u, scan_operators(ssm.coefficients()), num_forward=num_channels // 2).sum().backward()

        works = {"blocks": in_blocks, "fft": by_fft}
        if gpu.runs_triton(device):
            works["scan"] = by_scan
        costs = measure(works, device, num_rounds)
        results[str(length)] = {name: cost.to_dict() for name, cost in costs.items()}
    return results


def measure(works: Mapping[str, Work], device: torch.device, num_rounds: int) -> dict[str, Cost]:
    """Seconds and memory of works, run in turn after one round that does not count."""
    seconds: dict[str, list[float]] = defaultdict(list)
    peaks = {name: peak_bytes(work, device) for name, work in works.items()}
    for _ in range(num_rounds):
        for name, work in works.items():
            _synchronise(device)
            start = time.perf_counter()
            work()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: Cost(seconds=tuple(seconds[name]), peak_bytes=peaks[name]) for name in works}


def peak_bytes(work: Work, device: torch.device) -> int:
    """Most that the tensors of `work` take at once on `device`, beyond what stands there before."""
    if device.type == "cuda":
        work()  # what is allocated once
        _synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as found:
        work()
    held = peak = 0
    for event in sorted(_events(found), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def split_parts(work: Work, device: torch.device) -> dict[str, float]:
    """Seconds of one run by the parts that `work` names with `PART`, and the rest.

    On a GPU the seconds of its kernels, by the part in which they were launched.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    work()
    _synchronise(device)
    with profile(activities=activities, acc_events=True) as found:
        start = time.perf_counter()
        work()
        _synchronise(device)
        total = time.perf_counter() - start
    if device.type == "cuda":
        return split_kernels(_events(found))
    parts: dict[str, float] = defaultdict(float)
    for event in found.events() or ():
        if event.name.startswith(PART):
            parts[event.name.removeprefix(PART)] += event.cpu_time_total / 1e6
    parts["rest"] = max(0.0, total - sum(parts.values()))
    return dict(parts)


def split_kernels(events: list[Any]) -> dict[str, float]:
    """Seconds of the GPU's kernels by the part in which the host launched them, from a profile's events."""
    begun = sorted(
        (event.start_ns(), event.end_ns(), event.name().removeprefix(PART))
        for event in events
        if event.name().startswith(PART) and _is_on(event, "CPU")
    )
    launched = {
        event.correlation_id(): event.start_ns()
        for event in events
        if _is_on(event, "CPU") and event.name().startswith("cu")
    }
    parts: dict[str, float] = defaultdict(float)
    for kernel in _kernels(events):
        moment = launched.get(kernel.correlation_id(), -1)
        place = bisect_right(begun, moment, key=lambda part: part[0]) - 1
        inside = place >= 0 and moment <= begun[place][1]
        parts[begun[place][2] if inside else "rest"] += kernel.duration_ns() / 1e9
    return dict(parts)


def busy_share(work: Work, device: torch.device) -> float:
    """Share of the time of `work`, on a GPU, in which one of its kernels ran there."""
    work()
    _synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        start = time.perf_counter()
        work()
        _synchronise(device)
        total = time.perf_counter() - start
    return busy_seconds(_events(found)) / total


def busy_seconds(events: list[Any]) -> float:
    """In which at least one of the GPU's kernels ran, from a profile's events."""
    busy = end = 0
    for begin, stop in sorted((kernel.start_ns(), kernel.end_ns()) for kernel in _kernels(events)):
        busy += max(0, stop - max(begin, end))
        end = max(end, stop)
    return busy / 1e9


def _events(found: profile) -> list[Any]:
    assert found.profiler is not None and found.profiler.kineto_results is not None
    return list(found.profiler.kineto_results.events())


def _is_on(event: Any, device: str) -> bool:
    name: str = event.device_type().name
    return name == device


def _kernels(events: list[Any]) -> list[Any]:
    """What ran on the GPU, copies included; not the names that parts have there."""
    return [event for event in events if _is_on(event, "CUDA") and not event.is_user_annotation()]


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
