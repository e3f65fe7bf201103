"""Benchmarks of training on random batches: sandwich step, transducer losses, SSM convolution.

Letters: N utterances, T feature frames, U labels, V vocabulary, J joiner dimension, C channels, S state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from todm.config import Config, LossConfig
from todm.data.batch import Batch
from todm.dropout import build_policy
from todm.errors import UserError
from todm.kernels import gpu
from todm.losses import TransducerInputs, TransducerLossOptions, rnnt_loss
from todm.nn.joiner import Joiner
from todm.nn.ssm import DiagonalSsm, block_frames, block_operators, convolve, convolve_fft, is_ssm_parameter
from todm.nn.ssm_scan import scan, scan_operators
from todm.nn.supernet import Supernet
from todm.runtime.constants import FRAME_SECONDS, NUM_MEL_BINS
from todm.space.sandwich import draw_specs
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec
from todm.train.measurement import Measurement, Work, measure
from todm.train.optim import build_optimizer
from todm.train.passes import SECTION
from todm.train.phases import skip_to_sandwich
from todm.train.step import SandwichStep
from todm.train.step_profile import measure_gpu_busy, profile_sections

LOSSES = ("native", "k2", "torchaudio")
STEPS_IN_A_ROW = 5
"""Consecutive steps that are timed together on a GPU, which may still run one when the next is launched."""


@dataclass(frozen=True, kw_only=True)
class BatchShape:
    """Shape of a batch of equally long utterances.

    Args:
        utterances: N.
        frames: T, in frames of 10 ms.
        labels: U.
        vocab_size: V.
    """

    utterances: int = 4
    frames: int = 1000
    labels: int = 40
    vocab_size: int = 500

    @property
    def hours(self) -> float:
        """Duration of the audio in hours."""
        return self.utterances * self.frames * FRAME_SECONDS / 3600

    def draw(self, device: torch.device) -> Batch:
        """Draw random features in the range of log-mel energies, and random labels."""
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


@dataclass(frozen=True, kw_only=True)
class StepBenchmark:
    """Cost of the sandwich step.

    Args:
        parameters: number of parameters of the max net.
        max: forward and backward pass of the max net alone.
        sandwich: forward and backward passes of a step; its specs are drawn anew in every round.
        apart: the same specs one by one, without shared computation.
        optimizer: update of the weights.
        steps: `steps_in_a_row` complete steps, with the optimizer.
        steps_in_a_row: number of those steps.
        hours_per_hour: hours of audio trained per hour.
        sections: seconds of one step by section (on a GPU: of its kernels).
        gpu_busy: share of the time in which the GPU runs a kernel; None on a CPU.
    """

    parameters: int
    max: Measurement
    sandwich: Measurement
    apart: Measurement
    optimizer: Measurement
    steps: Measurement
    steps_in_a_row: int
    hours_per_hour: float
    sections: Mapping[str, float]
    gpu_busy: float | None

    @property
    def measurements(self) -> dict[str, Measurement]:
        """MicroBatchPasses and update by name."""
        return {name: getattr(self, name) for name in ("max", "sandwich", "apart", "optimizer")}

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON; ratios of medians are added."""
        return {
            "parameters": self.parameters,
            **{name: measurement.to_dict() for name, measurement in self.measurements.items()},
            "sandwich_to_max": self.sandwich.median / self.max.median,
            "apart_to_max": self.apart.median / self.max.median,
            "steps": self.steps.to_dict(),
            "steps_in_a_row": self.steps_in_a_row,
            "hours_per_hour": self.hours_per_hour,
            "parts": dict(self.sections),
            "gpu_busy": self.gpu_busy,
        }


@dataclass(frozen=True, kw_only=True)
class LossBenchmark:
    """Cost of the transducer loss: value and gradient, joiner, smoothed loss and pruning included.

    Args:
        backends: measurements by backend.
        missing: reasons why backends were left out.
    """

    backends: Mapping[str, Measurement]
    missing: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {**_plain(self.backends), "missing": dict(self.missing)}


@dataclass(frozen=True, kw_only=True)
class ConvolutionBenchmark:
    """Cost of the SSM's forms: value and gradient, computation of their matrices included.

    Args:
        lengths: measurements by number of encoder frames and form (``blocks``, ``fft``, on a GPU ``scan``).
    """

    lengths: Mapping[int, Mapping[str, Measurement]]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {str(length): _plain(forms) for length, forms in self.lengths.items()}


@dataclass(frozen=True, kw_only=True)
class TrainingBenchmark:
    """All benchmarks of one machine.

    Args:
        machine: description of the machine.
        batch: batch of the step.
        step: sandwich step.
        losses: transducer loss by backend.
        convolution: SSM by form.
    """

    machine: Mapping[str, Any]
    batch: BatchShape
    step: StepBenchmark
    losses: LossBenchmark
    convolution: ConvolutionBenchmark

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            "machine": dict(self.machine),
            "batch": asdict(self.batch),
            "step": self.step.to_dict(),
            "losses": self.losses.to_dict(),
            "convolution": self.convolution.to_dict(),
        }


def benchmark_step(config: Config, shape: BatchShape, device: torch.device, num_rounds: int) -> StepBenchmark:
    """Benchmark the sandwich step of `config` as it is after all warm-ups.

    Args:
        config: settings of the training.
        shape: batch of the step.
        device: device that it runs on.
        num_rounds: timed rounds, at least 1.
    """
    net, works = prepare_steps(config, shape, device)
    optimizer = build_optimizer(config.train.optim, net.named_parameters(), is_ssm_parameter)
    passes = measure(works, device, num_rounds)
    update = measure({"optimizer": optimizer.step}, device, num_rounds)["optimizer"]

    def run_step() -> None:
        works["sandwich"]()
        with record_function(f"{SECTION}optimiser"):
            optimizer.step()

    def run_steps() -> None:
        for _ in range(num_steps):
            run_step()

    num_steps = STEPS_IN_A_ROW if device.type == "cuda" else 1
    steps = measure({"steps": run_steps}, device, num_rounds)["steps"]
    return StepBenchmark(
        parameters=sum(parameter.numel() for parameter in net.full.parameters()),
        max=passes["max"],
        sandwich=passes["sandwich"],
        apart=passes["apart"],
        optimizer=update,
        steps=steps,
        steps_in_a_row=num_steps,
        hours_per_hour=shape.hours * num_steps / steps.median * 3600,
        sections=profile_sections(run_step, device),
        gpu_busy=measure_gpu_busy(run_steps, device) if device.type == "cuda" else None,
    )


def prepare_steps(
    config: Config, shape: BatchShape, device: torch.device
) -> tuple[Supernet, dict[str, Work]]:
    """Build a supernet with random weights and the passes ``max``, ``sandwich`` and ``apart`` on it.

    See `StepBenchmark`.
    """
    space = SearchSpace.from_config(config)
    torch.manual_seed(0)
    net = Supernet(config.model, space, shape.vocab_size).to(device)
    settings = skip_to_sandwich(replace(config.train, distill=replace(config.train.distill, warmup_steps=0)))
    step = SandwichStep(net, settings, build_policy(config.train.dropout, space))
    batch = shape.draw(device)
    generator = torch.Generator(device=device).manual_seed(0)
    rounds = iter(range(10**9))
    rule = replace(config.train.sandwich, student_interval=1)  # a step without students is ``max``

    def draw() -> tuple[SubnetSpec, ...]:
        return draw_specs(space, rule, seed=0, step=next(rounds))

    def run(specs: tuple[SubnetSpec, ...]) -> None:
        step(batch, specs, step=0, generator=generator)

    def run_apart() -> None:
        for spec in draw():
            run((spec,))

    def with_new_gradients(work: Work) -> Work:
        def run_work() -> None:
            net.zero_grad(set_to_none=True)
            work()

        return run_work

    return net, {
        "max": with_new_gradients(lambda: run((space.max(),))),
        "sandwich": with_new_gradients(lambda: run(draw())),
        "apart": with_new_gradients(run_apart),
    }


def benchmark_losses(
    shape: BatchShape, joiner_dim: int, prune_range: int, device: torch.device, num_rounds: int
) -> LossBenchmark:
    """Benchmark the transducer loss of every installed backend.

    Args:
        shape: batch; its `frames` are encoder frames here.
        joiner_dim: J.
        prune_range: symbols per frame that the pruned loss computes.
        device: device that it runs on.
        num_rounds: timed rounds, at least 1.
    """
    run = _prepare_losses(shape, joiner_dim, prune_range, device)
    works: dict[str, Work] = {}
    missing: dict[str, str] = {}
    for backend in LOSSES:
        try:
            run(backend)
        except UserError as error:
            missing[backend] = str(error)
        else:
            works[backend] = lambda backend=backend: run(backend)  # type: ignore[misc]
    return LossBenchmark(backends=measure(works, device, num_rounds), missing=missing)


def _prepare_losses(
    shape: BatchShape, joiner_dim: int, prune_range: int, device: torch.device
) -> Callable[[str], None]:
    """Return a function that computes value and gradient with the backend of a name."""
    torch.manual_seed(0)
    joiner = Joiner(joiner_dim, shape.vocab_size).to(device)
    simple_am_proj, simple_lm_proj = (nn.Linear(joiner_dim, shape.vocab_size).to(device) for _ in range(2))
    batch = shape.draw(device)
    encoder_out = torch.randn(shape.utterances, shape.frames, joiner_dim, device=device, requires_grad=True)
    predictor_out = torch.randn(
        shape.utterances, shape.labels + 1, joiner_dim, device=device, requires_grad=True
    )

    def run(backend: str) -> None:
        for tensor in (encoder_out, predictor_out, *joiner.parameters()):
            tensor.grad = None
        pruned = backend != "torchaudio"
        inputs = TransducerInputs(
            encoder_out=encoder_out,
            predictor_out=predictor_out,
            join=joiner,
            labels=batch.labels,
            encoder_lens=batch.feat_lens,
            label_lens=batch.label_lens,
            am=simple_am_proj(encoder_out) if pruned else None,
            lm=simple_lm_proj(predictor_out) if pruned else None,
        )
        options = replace(
            TransducerLossOptions.from_config(LossConfig(), with_log_probs=False),
            backend=backend,
            prune_range=prune_range,
        )
        loss = rnnt_loss(inputs, options)
        torch.autograd.backward((loss.pruned + loss.simple).sum() if pruned else loss.pruned.sum())

    return run


def benchmark_convolution(
    num_channels: int, state_dim: int, lengths: tuple[int, ...], device: torch.device, num_rounds: int
) -> ConvolutionBenchmark:
    """Benchmark the SSM in blocks, by FFT and, on a GPU, by scan.

    Args:
        num_channels: C, half of them backward.
        state_dim: S.
        lengths: numbers of encoder frames of the 4 utterances.
        device: device that it runs on.
        num_rounds: timed rounds, at least 1.
    """
    torch.manual_seed(0)
    ssm = DiagonalSsm(num_channels, state_dim, [(0.03, 3.0)]).to(device)
    results = {}
    for length in lengths:
        u = torch.randn(4, length, num_channels, device=device, requires_grad=True)

        def run_blocks(u: Tensor = u) -> None:
            operators = block_operators(ssm.coefficients(), block_frames(u.shape[1]))
            convolve(u, operators, num_forward=num_channels // 2).sum().backward()

        def run_fft(u: Tensor = u) -> None:
            convolve_fft(u, ssm.coefficients(), num_forward=num_channels // 2).sum().backward()

        def run_scan(u: Tensor = u) -> None:
            scan(u, scan_operators(ssm.coefficients()), num_forward=num_channels // 2).sum().backward()

        works: dict[str, Work] = {"blocks": run_blocks, "fft": run_fft}
        if gpu.runs_triton(device):
            works["scan"] = run_scan
        results[length] = measure(works, device, num_rounds)
    return ConvolutionBenchmark(lengths=results)


def _plain(measurements: Mapping[str, Measurement]) -> dict[str, Any]:
    return {name: measurement.to_dict() for name, measurement in measurements.items()}
