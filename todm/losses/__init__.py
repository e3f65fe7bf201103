"""Losses: the transducer loss, distillation on the transducer lattice, contrastive loss."""

from __future__ import annotations

from todm.losses.band import Band
from todm.losses.divergence import alpha_divergence
from todm.losses.interface import TransducerInputs, TransducerLoss, TransducerLossOptions
from todm.losses.lattice import DivergenceOptions, LatticeNodes, lattice_divergence
from todm.losses.rnnt import rnnt_loss

__all__ = [
    "Band",
    "DivergenceOptions",
    "LatticeNodes",
    "TransducerInputs",
    "TransducerLoss",
    "TransducerLossOptions",
    "alpha_divergence",
    "lattice_divergence",
    "rnnt_loss",
]
