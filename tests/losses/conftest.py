"""Small random transducer problems, shared by the tests of the losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from todm.config import LossConfig
from todm.losses import Band, TransducerInputs, TransducerLoss, TransducerLossOptions, rnnt_loss


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Leaf tensors (float64 unless asked otherwise) and lengths of one batch."""

    encoder_out: Tensor
    predictor_out: Tensor
    am: Tensor
    lm: Tensor
    weight: Tensor
    labels: Tensor
    encoder_lens: Tensor
    label_lens: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return self.encoder_out, self.predictor_out, self.am, self.lm, self.weight

    def to(self, dtype: torch.dtype) -> Problem:
        names = ("encoder_out", "predictor_out", "am", "lm", "weight")
        return replace(self, **{n: getattr(self, n).detach().to(dtype).requires_grad_() for n in names})

    def loss(
        self, backend: str, *, smoothed: bool = True, band: Band | None = None, **options: Any
    ) -> TransducerLoss:
        inputs = TransducerInputs(
            encoder_out=self.encoder_out,
            predictor_out=self.predictor_out,
            join=lambda enc, pred: torch.tanh(enc + pred) @ self.weight,
            labels=self.labels,
            encoder_lens=self.encoder_lens,
            label_lens=self.label_lens,
            am=self.am if smoothed else None,
            lm=self.lm if smoothed else None,
            band=band,
            band_size=options.pop("band_size", None),
        )
        return rnnt_loss(
            inputs, replace(TransducerLossOptions.from_config(LossConfig()), backend=backend, **options)
        )

    def gradients(self, loss: TransducerLoss) -> tuple[Tensor, ...]:
        """Gradients to all leaves, each utterance and each loss weighted differently."""
        weight = torch.arange(1.0, len(self.labels) + 1)
        total = (weight * (loss.simple + 0.7 * loss.pruned)).sum()
        return torch.autograd.grad(total, self.leaves, materialize_grads=True)

    def utterance(self, n: int) -> Problem:
        """Utterance ``n`` alone, without padding."""
        num_frames, num_labels = int(self.encoder_lens[n]), int(self.label_lens[n])
        return Problem(
            encoder_out=_leaf(self.encoder_out[n : n + 1, :num_frames]),
            predictor_out=_leaf(self.predictor_out[n : n + 1, : num_labels + 1]),
            am=_leaf(self.am[n : n + 1, :num_frames]),
            lm=_leaf(self.lm[n : n + 1, : num_labels + 1]),
            weight=_leaf(self.weight),
            labels=self.labels[n : n + 1, :num_labels],
            encoder_lens=self.encoder_lens[n : n + 1],
            label_lens=self.label_lens[n : n + 1],
        )


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def _make_problem(
    seed: int,
    encoder_lens: list[int],
    label_lens: list[int],
    *,
    vocab_size: int = 6,
    joiner_dim: int = 4,
    scale: float = 1.0,
    extra_frames: int = 0,
    extra_labels: int = 0,
    spoil_padding: bool = False,
) -> Problem:
    """A random batch; ``spoil_padding`` fills the padding with NaN and with impossible labels."""
    generator = torch.Generator().manual_seed(seed)
    num = len(encoder_lens)
    frames, labels = max(encoder_lens) + extra_frames, max(label_lens) + extra_labels
    lens, ulens = torch.tensor(encoder_lens), torch.tensor(label_lens)

    def random(*shape: int) -> Tensor:
        return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)

    encoder_out, predictor_out = random(num, frames, joiner_dim), random(num, labels + 1, joiner_dim)
    am, lm = random(num, frames, vocab_size), random(num, labels + 1, vocab_size)
    ids = torch.randint(1, vocab_size, (num, labels), generator=generator)
    if spoil_padding:
        for n in range(num):
            for x in (encoder_out, am):
                x[n, lens[n] :] = torch.nan
            for x in (predictor_out, lm):
                x[n, ulens[n] + 1 :] = torch.nan
            ids[n, ulens[n] :] = -100
    return Problem(
        encoder_out=_leaf(encoder_out),
        predictor_out=_leaf(predictor_out),
        am=_leaf(am),
        lm=_leaf(lm),
        weight=_leaf(random(joiner_dim, vocab_size)),
        labels=ids,
        encoder_lens=lens,
        label_lens=ulens,
    )


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    return _make_problem
