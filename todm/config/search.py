"""Settings ``search.*``: NSGA-II over specs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todm.config.fields import setting


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search for specs by NSGA-II within limits."""

    objectives: tuple[str, ...] = setting(
        ("wer", "params"),
        "Objectives of the front, all minimised, the most important first: ``wer``, ``params``, ``macs`` "
        "(per second of audio), ``size`` (of the ONNX files), ``state`` (bytes of a stream), ``rtf on "
        "DEVICE`` and ``latency on DEVICE`` (95th percentile of a call) for a device measured by ``todm "
        "latency``.",
        min_items=1,
        unique=True,
        parser="todm.search.limits:parse_objective",
    )
    limits: tuple[str, ...] = setting(
        (),
        "Constraints such as ``rtf <= 0.1 on pi4`` or ``size <= 2 MB``.",
        unique=True,
        parser="todm.search.limits:parse_limit",
    )
    precision: Literal["fp32", "int8", "fp16"] = setting(
        "fp32",
        "``fp32`` decodes in torch; ``int8`` and ``fp16`` decode exported files and use their sizes and "
        "speeds.",
    )
    evaluations: int = setting(
        60, "Most specs evaluated, over all modes and budgets together.", ge=1, le=10_000_000
    )
    population: int = setting(12, "Specs per generation.", ge=2, le=1_000_000)
    num_utterances: int = setting(
        0, "Dev utterances that a spec is judged on; 0 takes all.", ge=0, le=100_000_000
    )
    seed: int = setting(1, "Seed of the sampler and of the choice of utterances.", ge=0, le=2**32 - 1)
    workers: int = setting(1, "Processes that evaluate; the front does not depend on it.", ge=1, le=1024)
    sizes: int = setting(
        1, "Specs chosen from the front of each mode: the knee, then others spread over it.", ge=1, le=10_000
    )
    proxy_utterances: int = setting(
        0,
        "Dev utterances whose transducer loss screens candidates before decoding; 0 for no screen.",
        ge=0,
        le=100_000_000,
    )
    proxy_correlation: float = setting(
        0.7, "Rank correlation with the WER from which on the screen is used.", ge=-1.0, le=1.0
    )
