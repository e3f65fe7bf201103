"""Losses: the transducer loss behind one function, and the divergence between two output lattices."""

from __future__ import annotations

from todm.losses.divergence import alpha_divergence
from todm.losses.lattice import lattice_divergence
from todm.losses.rnnt import Band, TransducerLoss, rnnt_loss

__all__ = ["Band", "TransducerLoss", "alpha_divergence", "lattice_divergence", "rnnt_loss"]
