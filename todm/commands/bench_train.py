"""Measure training on this machine with random batches: the sandwich step, the losses and the SSM."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import todm.api as api
from todm.commands import add_config_arguments
from todm.config import load_config

if TYPE_CHECKING:
    from todm.api.train_benchmark import Section
    from todm.train.measurement import Measurement
    from todm.train.step_benchmark import ConvolutionBenchmark, LossBenchmark, StepBenchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm bench-train``."""
    add_config_arguments(parser)
    for option, default, text in (
        ("--utterances", 4, "utterances of the batch"),
        ("--frames", 1000, "10-ms frames of each utterance"),
        ("--labels", 40, "labels of each utterance"),
        ("--vocab-size", 500, "tokens, blank included"),
        ("--rounds", 5, "timed runs; the median counts"),
    ):
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the results as JSON, and a chart as FILE.png"
    )


def run(args: argparse.Namespace) -> None:
    """Print three tables; write the JSON and the chart."""
    shape = api.BatchShape(
        utterances=args.utterances, frames=args.frames, labels=args.labels, vocab_size=args.vocab_size
    )
    config = load_config(args.conf, args.overrides)
    api.benchmark_training(
        config, shape, num_rounds=args.rounds, out=args.out, on_section=lambda part: _print(part, shape)
    )


def _print(section: Section, shape: api.BatchShape) -> None:
    if isinstance(section, api.StepBenchmark):
        _print_step(section, shape)
    elif isinstance(section, api.LossBenchmark):
        _print_losses(section)
    else:
        _print_convolution(section)


def _print_step(step: StepBenchmark, shape: api.BatchShape) -> None:
    print(f"step of {step.parameters / 1e6:.1f} M parameters, {shape.utterances} x {shape.frames} frames")
    _print_measurements(step.measurements, "max")
    busy = "" if step.gpu_busy is None else f", GPU busy {step.gpu_busy:.0%} of the time"
    print(f"{step.hours_per_hour:.0f} hours of audio per hour{busy}; sections of one sandwich step:")
    for name, seconds in sorted(step.sections.items(), key=lambda section: -section[1]):
        print(f"  {name:<28} {1000 * seconds:9.1f} ms  {seconds / sum(step.sections.values()):6.1%}")


def _print_losses(losses: LossBenchmark) -> None:
    print("transducer loss")
    _print_measurements(losses.backends, "native")
    for name, reason in losses.missing.items():
        print(f"  {name}: left out: {reason}")


def _print_convolution(convolution: ConvolutionBenchmark) -> None:
    print("SSM, 4 utterances")
    for length, measurements in convolution.lengths.items():
        print(f" {length} encoder frames")
        _print_measurements(measurements, "fft")


def _print_measurements(measurements: Mapping[str, Measurement], base: str) -> None:
    """Print median, ratio to `base` and memory of each measurement."""
    for name, one in measurements.items():
        ratio = one.median / measurements[base].median
        print(
            f"  {name:<12} {1000 * one.median:9.1f} ms  {ratio:6.2f} of {base}"
            f"  {one.peak_bytes / 2**20:8.1f} MB"
        )
