"""Settings ``train.sandwich.*``, ``train.loss.*``, ``train.distill.*`` and ``train.contrastive.*``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todm.config.fields import setting

MAX_STEPS = 100_000_000
"""Upper bound of settings that count training steps."""


@dataclass(frozen=True, kw_only=True)
class SandwichConfig:
    """Specs that one training step runs after the largest net."""

    num_corners: int = setting(
        1,
        "Number of other corners (smallest and largest spec of each mode) that are students of a step, in "
        "rotation.",
        ge=0,
        le=16,
    )
    num_random: int = setting(1, "Number of random specs among the students of a step.", ge=0, le=64)
    num_students: int = setting(0, "Students actually run per step, in rotation; 0 runs all.", ge=0, le=80)
    student_interval: int = setting(
        1,
        "Students run in one of this many steps, the largest net alone in the others. With two modes, the "
        "streaming nets are all students.",
        ge=1,
        le=1_000_000,
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Transducer loss (pruned RNN-T, Kuang et al., arXiv 2206.13236)."""

    backend: Literal["native", "k2", "torchaudio"] = setting(
        "native",
        "Implementation: ``native`` and ``k2`` prune the lattice, ``torchaudio`` computes all of it.",
    )
    prune_range: int = setting(5, "Symbols per frame on which the full joiner runs.", ge=2, le=1024)
    lm_scale: float = setting(0.25, "Share of the label-only model in the smoothed loss.", ge=0.0, le=1.0)
    am_scale: float = setting(0.0, "Share of the audio-only model in the smoothed loss.", ge=0.0, le=1.0)
    path_power: float = setting(
        1.0,
        "1 is the likelihood. A larger exponent concentrates a label's probability in one frame (see "
        "`todm.losses.native`). Not applied during the alignment warm-up; ``native`` only.",
        ge=1.0,
        le=100.0,
    )
    pruned_scales: tuple[float, float] = setting(
        (0.1, 1.0),
        "Weight of the transducer loss at the start and the end of the warm-up.",
        ge=0.0,
        le=1000.0,
    )
    simple_scales: tuple[float, float] = setting(
        (1.0, 0.5), "Weight of the smoothed loss at the start and the end of the warm-up.", ge=0.0, le=1000.0
    )
    warmup_steps: int = setting(
        2000,
        "Steps after the alignment warm-up over which these weights change linearly.",
        ge=0,
        le=MAX_STEPS,
    )
    alignment_warmup_steps: int = setting(
        0,
        "Steps at the beginning in which only the largest net of each mode runs, without augmentation or "
        "dropout, and labels stay near the diagonal of the lattice, which spreads them evenly over the "
        "utterance. A transducer with full context can otherwise stay for hours on a plateau where the "
        "number of labels is right and their identity is not.",
        ge=0,
        le=MAX_STEPS,
    )
    alignment_warmup_range: int = setting(
        3,
        "Symbols per frame during the alignment warm-up. The smoothed loss then trains its own projections "
        "only, not the encoder.",
        ge=2,
        le=1024,
    )
    alignment_warmup_delay: int = setting(
        0,
        "Encoder frames by which the diagonal is delayed; the batch is lengthened by as much silence. "
        "Without it labels align to mid-word, too early for streaming.",
        ge=0,
        le=10_000,
    )
    alignment_warmup_label_context_dropout: float = setting(
        0.0,
        "Share of label positions at which the joiner does not see the previous labels during the alignment "
        "warm-up. 1 suits text whose labels predict each other (letters of a few words); where the same "
        "label often occurs twice in a row, it teaches the net to drop the second.",
        ge=0.0,
        le=1.0,
    )
    streaming_delay: int = setting(
        0,
        "Encoder frames by which streaming nets emit a label later than the largest offline net, in the "
        "lattice, its band and the distillation. Every utterance is lengthened by as much silence. For a "
        "space with both modes.",
        ge=0,
        le=10_000,
    )
    label_context_dropout: float = setting(
        0.0,
        "The same share after the alignment warm-up. Greedy search then recovers after a missed label, "
        "because the next one can be recognised without it.",
        ge=0.0,
        lt=1.0,
    )
    label_context_carry: float = setting(
        0.0,
        "Share of the utterances, after the alignment warm-up, that begin with the last labels of another "
        "utterance, or with random labels, as label context. A streaming host keeps its labels over a pause; "
        "without such training a net deletes the first word after the pause.",
        ge=0.0,
        le=1.0,
    )


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """In-place distillation from the largest net (AlphaNet, Wang et al., arXiv 2102.07954)."""

    lattice: Literal["full", "collapsed", "none"] = setting(
        "full",
        "Distributions compared at each lattice node: the ``full`` vocabulary, ``collapsed`` to label, blank "
        "and rest, or ``none`` for no distillation.",
    )
    objective: Literal["distill_only", "distill_plus_rnnt"] = setting(
        "distill_plus_rnnt", "Whether students train on the divergence alone or on the RNN-T loss too."
    )
    weight: float = setting(
        1.0, "Weight of the divergence, a mean over valid lattice nodes times frames.", ge=0.0, le=1000.0
    )
    alpha_min: float = setting(-1.0, "Negative branch of the adaptive alpha divergence.", ge=-10.0, le=1.0)
    alpha_max: float = setting(1.0, "Positive branch of the adaptive alpha divergence.", ge=0.0, le=10.0)
    ratio_clip: float = setting(
        5.0,
        "Upper limit of r^alpha, where r is the ratio of the teacher's to the student's probability; not "
        "applied at alpha = 1.",
        ge=1.0,
        le=1e9,
    )
    across_modes: bool = setting(
        True,
        "Whether the largest offline net teaches streaming nets too. It can emit a label before a streaming "
        "net has received its audio; with short, dense labels streaming nets learn better from labels alone.",
    )
    warmup_steps: int = setting(500, "Steps over which the weight grows from 0.", ge=0, le=MAX_STEPS)


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Two dropout views of each utterance (`todm.losses.contrastive`), before or during training.

    Without dropout both views are equal and the loss only keeps utterances apart.
    """

    steps: int = setting(
        0,
        "Steps at the beginning that train the largest net of each mode on InfoNCE alone. Later phases and "
        "warm-ups start after them.",
        ge=0,
        le=MAX_STEPS,
    )
    weight: float = setting(
        0.0,
        "Weight per utterance of the same term for the largest net during training with labels. It costs a "
        "second pass of the encoder.",
        ge=0.0,
        le=1000.0,
    )
    temperature: float = setting(0.05, "Temperature of the similarities.", gt=0.0, le=100.0)
