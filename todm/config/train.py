"""Settings ``train.*``: the training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from todm.config.dropout import DropoutConfig
from todm.config.fields import setting
from todm.config.loss import MAX_STEPS, ContrastiveConfig, DistillConfig, LossConfig, SandwichConfig
from todm.config.optim import CollapseConfig, OptimConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length, checkpoints and devices of the training run."""

    num_epochs: int = setting(
        30, "Passes over the training utterances, speed copies included.", ge=1, le=100_000
    )
    max_steps: int = setting(0, "Stop after this many steps; 0 for no limit.", ge=0, le=MAX_STEPS)
    seed: int = setting(
        42, "Seed of initialisation, specs, dropout, augmentation and sampler.", ge=0, le=2**63 - 1
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "``auto`` takes a GPU if there is one for each process of the machine, otherwise the CPU."
    )
    num_threads: int = setting(0, "CPU threads of one process; 0 leaves the choice to torch.", ge=0, le=1024)
    num_processes: int = setting(
        1,
        "Processes on this machine that train together, each on its own batches, so that a step sees this "
        "many times ``data.max_duration``. Use torchrun for several machines.",
        ge=1,
        le=1024,
    )
    log_interval: int = setting(50, "Steps between log lines.", ge=1, le=MAX_STEPS)
    precision: Literal["float32", "bfloat16"] = setting(
        "float32",
        "``bfloat16`` computes products of linear layers and convolutions in half precision (autocast); "
        "weights, gradients, SSM, losses and divergences stay float32.",
    )
    grad_accum_steps: int = setting(
        1,
        "Parts of a batch that run one after the other; their gradients add up to one update, so that memory "
        "for one part is enough.",
        ge=1,
        le=10_000,
    )
    scan_batches: int = setting(
        0,
        "Number of largest batches that run once before the first step to check that they fit into memory.",
        ge=0,
        le=10_000,
    )
    valid_interval: int = setting(
        0,
        "Steps between validations besides those at epoch ends; 0 for no others, -1 for none at all.",
        ge=-1,
        le=MAX_STEPS,
    )
    valid_average: bool = setting(False, "Validate with averaged weights once available.")
    valid_blank_penalty: float = setting(
        0.0,
        "Nats subtracted from the logit of blank in validations, for a run whose nets will be calibrated "
        "(`calibrate_utterances`) or decoded with a penalty.",
        ge=0.0,
        le=100.0,
    )
    save_interval: int = setting(
        0, "Steps between checkpoints besides those at epoch ends; 0 for none.", ge=0, le=MAX_STEPS
    )
    keep_checkpoints: int = setting(3, "Newest checkpoints to keep; 0 keeps all.", ge=0, le=1_000_000)
    average_period: int = setting(
        20, "Steps between updates of the running average of weights.", ge=1, le=MAX_STEPS
    )
    calibrate_utterances: int = setting(
        0,
        "Training utterances on which ``todm average`` sets the bias of blank (`todm.train.calibrate`); 0 "
        "leaves it as trained.",
        ge=0,
        le=10_000_000,
    )
    average_from: float = setting(
        0.7, "Share of the run after which the running average starts.", ge=0.0, le=1.0
    )
    average_window: int = setting(
        0,
        "Steps that the average covers, older weights fading exponentially; 0 for the plain mean since its "
        "start.",
        ge=0,
        le=MAX_STEPS,
    )
    resume: str = setting(
        "auto",
        "``auto`` continues from the latest checkpoint in the run folder, ``never`` starts anew; otherwise "
        "the path of a checkpoint.",
    )
    sandwich: SandwichConfig = field(default_factory=SandwichConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
