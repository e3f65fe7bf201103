"""Measure training on this machine with random batches: the sandwich step and its parts, losses, the SSM."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from todm.commands import add_config_arguments
from todm.files import write_json

if TYPE_CHECKING:
    from todm.train.measurement import Measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--conf FILE`` and overrides, the batch's shape, ``--out FILE.json``."""
    add_config_arguments(parser)
    parser.add_argument("--utterances", type=int, default=4, help="N of the step's batch (4)")
    parser.add_argument("--frames", type=int, default=1000, help="10-ms frames of each utterance (1000)")
    parser.add_argument("--labels", type=int, default=40, help="labels of each utterance (40)")
    parser.add_argument("--vocab-size", type=int, default=500, help="pieces, blank included (500)")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each; medians count (5)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write everything as JSON, and a chart FILE.png beside it"
    )


def run(args: argparse.Namespace) -> None:
    """Print three tables; write the JSON and the chart."""
    import torch

    from todm.config import load_config
    from todm.errors import UserError
    from todm.runtime.machine import describe_machine
    from todm.train.step_benchmark import (
        BatchShape,
        TrainingBenchmark,
        benchmark_convolution,
        benchmark_losses,
        benchmark_step,
    )
    from todm.train.sync import World, choose_device

    numbers = {"utterances": 1, "frames": 40, "labels": 1, "vocab_size": 3, "rounds": 1}
    for name, least in numbers.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name.replace('_', '-')}: {getattr(args, name)} is below {least}")
    config = load_config(args.conf, args.overrides)
    device = choose_device(config.train.device, World())
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    shape = BatchShape(
        utterances=args.utterances, frames=args.frames, labels=args.labels, vocab_size=args.vocab_size
    )
    model = config.model
    machine = describe_machine("torch") | {"threads": torch.get_num_threads(), "device": str(device)}
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)

    step = benchmark_step(config, shape, device, args.rounds)
    print(f"step of {step.parameters / 1e6:.1f} M parameters, {shape.utterances} x {shape.frames} frames")
    _print_costs(step.measurements, "max")
    busy = "" if step.gpu_busy is None else f", GPU busy {step.gpu_busy:.0%} of the time"
    print(f"{step.hours_per_hour:.0f} hours of audio per hour{busy}; sections of one sandwich step:")
    for name, seconds in sorted(step.sections.items(), key=lambda section: -section[1]):
        print(f"  {name:<28} {1000 * seconds:9.1f} ms  {seconds / sum(step.sections.values()):6.1%}")

    lattice = BatchShape(utterances=8, frames=300, labels=args.labels, vocab_size=args.vocab_size)
    losses = benchmark_losses(lattice, model.joiner_dim, config.train.loss.prune_range, device, args.rounds)
    print(f"transducer loss, {lattice.utterances} x {lattice.frames} encoder frames, {lattice.labels} labels")
    _print_costs(losses.backends, "native")
    for name, reason in losses.missing.items():
        print(f"  {name}: left out: {reason}")

    channels = model.num_heads * model.head_dim
    convolution = benchmark_convolution(
        channels, model.state_dim, (100, 250, 500, 1000, 1500), device, args.rounds
    )
    print(f"SSM of {channels} channels, 4 utterances")
    for length, costs in convolution.lengths.items():
        print(f" {length} encoder frames")
        _print_costs(costs, "fft")

    if args.out:
        results = TrainingBenchmark(
            machine=machine, batch=shape, step=step, losses=losses, convolution=convolution
        )
        write_json(args.out, results.to_dict())
        draw_parts(step.sections, args.out.with_suffix(".png"))


def _print_costs(costs: Mapping[str, Measurement], base: str) -> None:
    """Print median, ratio to `base` and memory of each."""
    for name, cost in costs.items():
        ratio = cost.median / costs[base].median
        print(
            f"  {name:<12} {1000 * cost.median:9.1f} ms  {ratio:6.2f} of {base}"
            f"  {cost.peak_bytes / 2**20:8.1f} MB"
        )


def draw_parts(sections: Mapping[str, float], path: Path) -> None:
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
