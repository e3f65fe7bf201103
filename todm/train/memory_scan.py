"""Check before the first step that the largest batches fit into memory.

The longest batches of the epoch run once, forward and backward, at the largest specs. Weights, gradients,
order of batches and random numbers of the run are not changed.
"""

from __future__ import annotations

import logging

import torch

from todm.config import TrainConfig
from todm.data.augment import append_silence
from todm.data.utterances import EpochLoader
from todm.errors import UserError
from todm.train.step import SandwichStep

log = logging.getLogger(__name__)


def scan_longest_batches(
    step_fn: SandwichStep, loader: EpochLoader, config: TrainConfig, device: torch.device
) -> None:
    """Run the epoch's ``config.scan_batches`` largest batches (padding included) once.

    Args:
        step_fn: step of the run; gradients are cleared after each batch.
        loader: its epoch and place stay as they are.
        config: settings of the training.
        device: device of the net.

    Raises:
        UserError: one of them does not fit.
    """
    if not config.scan_batches:
        return
    space = step_fn.net.space
    specs = tuple(dict.fromkeys([space.max(), *space.corners()]))
    step = step_fn.phases.last_warmup_step
    for batch in loader.longest_batches(config.scan_batches):
        count, frames = batch.feats.shape[:2]
        try:
            longer = append_silence(batch.to(device), step_fn.tail_frames(step))
            generator = torch.Generator(device=device).manual_seed(0)
            step_fn(longer, specs, step=step, generator=generator)
        except (MemoryError, RuntimeError) as error:  # torch's own OutOfMemoryError is a RuntimeError
            if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                raise
            raise UserError(
                f"data.max_duration: the largest batch, {count} utterances of up to {frames} frames, does "
                f"not fit into the memory of {device}; lower it, or train with more processes"
            ) from error
        finally:
            step_fn.net.zero_grad(set_to_none=True)
        log.info("a batch of %d utterances of up to %d frames fits into memory", count, frames)
    if device.type == "cuda":
        torch.cuda.empty_cache()
