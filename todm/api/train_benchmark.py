"""Measure training on this machine with random batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from todm.config import Config
from todm.errors import UserError
from todm.files import write_json
from todm.runtime.machine import describe_machine
from todm.train.step_benchmark import (
    BatchShape,
    ConvolutionBenchmark,
    LossBenchmark,
    StepBenchmark,
    TrainingBenchmark,
    benchmark_convolution,
    benchmark_losses,
    benchmark_step,
)
from todm.train.sync import World, choose_device

LATTICE = BatchShape(utterances=8, frames=300, labels=40, vocab_size=500)
"""Batch of the transducer loss, in encoder frames; labels and vocabulary are those of the step's batch."""

SSM_LENGTHS = (100, 250, 500, 1000, 1500)
"""Encoder frames of the SSM benchmark."""

LEAST = {"utterances": 1, "frames": 40, "labels": 1, "vocab_size": 3}

Section = StepBenchmark | LossBenchmark | ConvolutionBenchmark


def benchmark_training(
    config: Config,
    shape: BatchShape,
    *,
    num_rounds: int = 5,
    out: Path | None = None,
    on_section: Callable[[Section], None] = lambda _: None,
) -> TrainingBenchmark:
    """Measure the sandwich step, the transducer losses and the SSM.

    Args:
        config: model and training settings.
        shape: random batch of the step.
        num_rounds: timed runs of each measurement, at least 1; medians count.
        out: JSON file for the results, and a chart with the suffix ``.png``; None writes nothing.
        on_section: called after each of the three parts.

    Raises:
        UserError: a size or a number of rounds that is too small.
    """
    for name, least in LEAST.items():
        if getattr(shape, name) < least:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag}: must be at least {least}, got {getattr(shape, name)}")
    if num_rounds < 1:
        raise UserError(f"--rounds: must be at least 1, got {num_rounds}")
    device = choose_device(config.train.device, World())
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    model = config.model
    step = benchmark_step(config, shape, device, num_rounds)
    on_section(step)
    lattice = replace(LATTICE, labels=shape.labels, vocab_size=shape.vocab_size)
    losses = benchmark_losses(lattice, model.joiner_dim, config.train.loss.prune_range, device, num_rounds)
    on_section(losses)
    channels = model.num_heads * model.head_dim
    convolution = benchmark_convolution(channels, model.state_dim, SSM_LENGTHS, device, num_rounds)
    on_section(convolution)
    machine = describe_machine("torch") | {"threads": torch.get_num_threads(), "device": str(device)}
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    result = TrainingBenchmark(
        machine=machine, batch=shape, step=step, losses=losses, convolution=convolution
    )
    if out is not None:
        write_json(out, result.to_dict())
        draw_sections(step.sections, out.with_suffix(".png"))
    return result


def draw_sections(sections: Mapping[str, float], path: Path) -> None:
    """Write a PNG with the sections of a step as one bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left = 0.0
    for name, seconds in sorted(sections.items(), key=lambda section: -section[1]):
        axes.barh([0], [1000 * seconds], left=left, label=f"{name} {1000 * seconds:.0f}")
        left += 1000 * seconds
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("milliseconds of a sandwich step")
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    figure.savefig(path, dpi=150)
