"""Loss values of a training step, on the device until they are needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class PassLoss:
    """Losses of one spec's pass, sums over the batch as plain numbers.

    Args:
        spec: spec that ran.
        rnnt: transducer loss; None in the contrastive phase.
        parts: further losses by name: ``simple`` (teacher), ``distill`` (students), ``contrastive``.
    """

    spec: SubnetSpec
    rnnt: float | None
    parts: dict[str, float]

    def plus(self, other: PassLoss) -> PassLoss:
        """Add the losses of the same spec on another micro-batch."""
        assert self.spec == other.spec and self.parts.keys() == other.parts.keys()
        parts = {name: value + other.parts[name] for name, value in self.parts.items()}
        rnnt = None if self.rnnt is None or other.rnnt is None else self.rnnt + other.rnnt
        return PassLoss(spec=self.spec, rnnt=rnnt, parts=parts)


@dataclass(frozen=True, kw_only=True)
class PassSums:
    """Losses of one spec's pass as tensors, which a GPU may not have computed yet.

    Args:
        spec: spec that ran.
        sums: scalars by name: ``rnnt`` and the names of `PassLoss.parts`.
    """

    spec: SubnetSpec
    sums: dict[str, Tensor]


class StepLosses:
    """Losses of all passes of a step, on the device.

    Reading the values synchronises the GPU; do it after the update.

    Args:
        micro_batches: sums of all passes, for each micro-batch.
    """

    def __init__(self, micro_batches: list[list[PassSums]]) -> None:
        self._micro_batches = micro_batches

    def on_host(self) -> list[PassLoss]:
        """Read all numbers in one transfer: a `PassLoss` for each pass, over the whole batch."""
        numbers = [x for passes in self._micro_batches for one in passes for x in one.sums.values()]
        rest = iter(torch.stack(numbers).tolist())

        def convert(one: PassSums) -> PassLoss:
            parts = {name: next(rest) for name in one.sums}
            return PassLoss(spec=one.spec, rnnt=parts.pop("rnnt", None), parts=parts)

        whole, *others = [[convert(one) for one in passes] for passes in self._micro_batches]
        for other in others:
            whole = [one.plus(more) for one, more in zip(whole, other, strict=True)]
        return whole
