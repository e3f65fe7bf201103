"""Linear model of a figure over depth and widths: predicts latencies and bundle sizes. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from todm.errors import UserError
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class LinearCostModel:
    """``base + depth * per_layer + sum over dimensions (total width * per_unit)``; no coefficient is
    negative.

    Layers of a net differ in their widths only, so all layers share one intercept and the slopes.

    Args:
        base: share of features, subsampling, predictor, joiner and calls, equal for all nets.
        per_layer: share of a layer at width 0.
        per_unit: share of one unit of width, by elastic dimension.
    """

    base: float
    per_layer: float
    per_unit: Mapping[str, float]

    def __call__(self, spec: SubnetSpec) -> float:
        """Predict the figure of `spec`."""
        widths = sum(sum(spec.width(name)) * unit for name, unit in self.per_unit.items())
        return self.base + spec.depth * self.per_layer + widths

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def fit_additive(specs: Sequence[SubnetSpec], values: Sequence[float]) -> LinearCostModel:
    """Fit by non-negative least squares of the relative errors.

    Args:
        specs: specs of at least two depths and of different widths at one depth in every dimension, so that
            all
            coefficients are determined.
        values: figure of each spec, above 0.

    Raises:
        UserError: scipy is not installed, or the specs determine no model.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise UserError(f"scipy is not installed ({error}); pip install 'todm[search]'") from error
    names = list(specs[0].widths)
    columns = np.array([[1.0, spec.depth, *(sum(spec.width(name)) for name in names)] for spec in specs])
    if np.linalg.matrix_rank(columns) < 2 + len(names):
        raise UserError(
            f"{len(specs)} specs do not determine a base, a cost per layer and a cost per unit; measure "
            "specs of two depths and of several widths"
        )
    targets = np.asarray(values, dtype=float)
    # Columns of one size: nnls stops at an absolute tolerance.
    scale = columns.max(axis=0)
    solution, _ = nnls(columns / scale / targets[:, None], np.ones(len(targets)))
    base, per_layer, *per_unit = (solution / scale).tolist()
    return LinearCostModel(base=base, per_layer=per_layer, per_unit=dict(zip(names, per_unit, strict=True)))
