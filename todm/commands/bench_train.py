"""Measure training on this machine with random batches: the sandwich step and its parts, losses, the SSM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from todm.commands import add_config_arguments
from todm.files import write_json

HELP = "measure training steps on this machine"


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

    from todm.config_io import load_config
    from todm.errors import UserError
    from todm.runtime.bench_machine import describe_machine
    from todm.train.bench import BatchShape, bench_convolution, bench_losses, bench_step
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
    results: dict[str, Any] = {
        "machine": describe_machine("torch") | {"threads": torch.get_num_threads(), "device": str(device)},
        "batch": {name: getattr(args, name) for name in ("utterances", "frames", "labels", "vocab_size")},
    }
    if device.type == "cuda":
        results["machine"]["gpu"] = torch.cuda.get_device_name(device)

    step = results["step"] = bench_step(config, shape, device, args.rounds)
    print(f"step of {step['parameters'] / 1e6:.1f} M parameters, {shape.utterances} x {shape.frames} frames")
    _print_costs({name: step[name] for name in ("max", "sandwich", "apart", "optimizer")}, "max")
    busy = "" if step["gpu_busy"] is None else f", the GPU busy {step['gpu_busy']:.0%} of the time"
    print(f"{step['hours_per_hour']:.0f} hours of audio per hour{busy}; parts of one sandwich step:")
    for name, seconds in sorted(step["parts"].items(), key=lambda part: -part[1]):
        print(f"  {name:<28} {1000 * seconds:9.1f} ms  {seconds / sum(step['parts'].values()):6.1%}")

    lattice = BatchShape(utterances=8, frames=300, labels=args.labels, vocab_size=args.vocab_size)
    losses = results["losses"] = bench_losses(
        lattice, model.joiner_dim, config.train.loss.prune_range, device, args.rounds
    )
    print(f"transducer loss, {lattice.utterances} x {lattice.frames} encoder frames, {lattice.labels} labels")
    _print_costs({name: cost for name, cost in losses.items() if name != "missing"}, "native")
    for name, reason in losses["missing"].items():
        print(f"  {name}: left out: {reason}")

    channels = model.num_heads * model.head_dim
    convolution = results["convolution"] = bench_convolution(
        channels, model.state_dim, (100, 250, 500, 1000, 1500), device, args.rounds
    )
    print(f"SSM of {channels} channels, 4 utterances")
    for length, costs in convolution.items():
        print(f" {length} encoder frames")
        _print_costs(costs, "fft")

    if args.out:
        write_json(args.out, results)
        draw_parts(step["parts"], args.out.with_suffix(".png"))


def _print_costs(costs: dict[str, dict[str, Any]], base: str) -> None:
    """A line each: median, ratio to `base`, memory."""
    for name, cost in costs.items():
        ratio = cost["median_seconds"] / costs[base]["median_seconds"]
        print(
            f"  {name:<12} {1000 * cost['median_seconds']:9.1f} ms  {ratio:6.2f} of {base}"
            f"  {cost['peak_bytes'] / 2**20:8.1f} MB"
        )


def draw_parts(parts: dict[str, float], path: Path) -> None:
    """Write a PNG with the parts of a step as one bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left = 0.0
    for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
        axes.barh([0], [1000 * seconds], left=left, label=f"{name} {1000 * seconds:.0f}")
        left += 1000 * seconds
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("milliseconds of a sandwich step")
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    figure.savefig(path, dpi=150)
