"""A figure that grows by the layer: the model behind predicted latencies and bundle sizes. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from todm.errors import UserError
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class LinearCostModel:
    """``base + depth * per_layer + sum(widths) * per_unit``, none of them negative.

    The layers of a net differ in their feed-forward width only, hence one intercept and one slope for all.

    Args:
        base: what every net pays: features, subsampling, predictor, joiner, calls.
        per_layer: what a layer adds at width 0.
        per_unit: what one hidden unit of a feed-forward adds.
    """

    base: float
    per_layer: float
    per_unit: float

    def __call__(self, spec: SubnetSpec) -> float:
        """The figure of `spec`."""
        return self.base + spec.depth * self.per_layer + sum(spec.width("ffn_dim")) * self.per_unit

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def fit_additive(specs: Sequence[SubnetSpec], values: Sequence[float]) -> LinearCostModel:
    """The non-negative least squares of the relative errors.

    Args:
        specs: of at least two depths and of different widths at one depth, so that all three are determined.
        values: their figures, above 0.

    Raises:
        UserError: scipy is not installed, or the specs determine no model.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise UserError(f"scipy is not installed ({error}); pip install 'todm[search]'") from error
    columns = np.array([[1.0, spec.depth, sum(spec.width("ffn_dim"))] for spec in specs])
    if np.linalg.matrix_rank(columns) < 3:
        raise UserError(
            f"{len(specs)} specs do not determine a base, a cost per layer and a cost per unit; measure some "
            "of two depths and of several widths"
        )
    targets = np.asarray(values, dtype=float)
    # Columns of one size: nnls stops at an absolute tolerance.
    scale = columns.max(axis=0)
    solution, _ = nnls(columns / scale / targets[:, None], np.ones(len(targets)))
    base, per_layer, per_unit = (solution / scale).tolist()
    return LinearCostModel(base=base, per_layer=per_layer, per_unit=per_unit)
