"""The supernet: one set of weights that runs at any spec, ``model(batch, spec)``.

Shapes: N batch, T feature frames, T' encoder frames, U labels, J joiner width, V vocabulary.

Features, subsampling, predictor and the SSM's block form are the same for all specs. They are computed once
per step as a `SharedPass`; `encode` then runs the layers of one spec on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from todm.config import Mode, ModelConfig
from todm.nn.dropout import DropoutPlan, LayerDropout
from todm.nn.elastic import slice_feed_forward, slice_mhssm, slice_operators
from todm.nn.feedforward import feed_forward
from todm.nn.mhssm import mhssm
from todm.nn.ssm import discretise
from todm.nn.ssm_scan import SsmOperators, ssm_operators
from todm.nn.subsampling import subsampled_lens
from todm.nn.transducer import Transducer, length_mask, pad_to_receptive_field
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class SpeechBatch(Protocol):
    """What the supernet reads of a batch: features (N, T, 80), their lengths, labels (N, U)."""

    @property
    def feats(self) -> Tensor: ...
    @property
    def feat_lens(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class SharedPass:
    """What every spec of a step starts from.

    Args:
        x: subsampled features, (N, T', D).
        lens: encoder frames, (N,) int64.
        mask: 1 inside an utterance, (N, T', 1).
        predictor_out: (N, U + 1, J).
        operators: what runs the SSM of each layer of the supernet, all channels.
    """

    x: Tensor
    lens: Tensor
    mask: Tensor
    predictor_out: Tensor
    operators: tuple[SsmOperators, ...]

    def detached(self) -> tuple[SharedPass, list[tuple[Tensor, Tensor]]]:
        """Copies cut off from the graph, and the pairs (original, copy) whose gradients are still to flow.

        The gradients of several passes add up in the copies; one `torch.autograd.backward` from the
        originals then takes the shared part once, exactly as if every pass had run its own.
        """
        pairs: list[tuple[Tensor, Tensor]] = []

        def cut(tensor: Tensor) -> Tensor:
            leaf = tensor.detach().requires_grad_(tensor.requires_grad)
            if tensor.requires_grad:
                pairs.append((tensor, leaf))
            return leaf

        shared = SharedPass(
            x=cut(self.x),
            lens=self.lens,
            mask=self.mask,
            predictor_out=cut(self.predictor_out),
            operators=tuple(type(layer)(*map(cut, layer)) for layer in self.operators),
        )
        return shared, pairs


class Supernet(nn.Module):
    """A transducer at full size whose pass takes a spec.

    Args:
        config: dimensions.
        space: specs it can run.
        vocab_size: V, blank (0) included.
    """

    def __init__(self, config: ModelConfig, space: SearchSpace, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.space = space
        self.vocab_size = vocab_size
        # A streaming-only space has no backward heads to train.
        mode: Mode = "offline" if "offline" in space.modes else "streaming"
        self.full = Transducer(config, space.max(mode), vocab_size)
        # LinearCostModel joiner of the smoothed loss that finds the pruning band; training only.
        self.simple_am_proj = nn.Linear(config.joiner_dim, vocab_size)
        self.simple_lm_proj = nn.Linear(config.joiner_dim, vocab_size)

    def share(self, batch: SpeechBatch) -> SharedPass:
        """Everything of a pass that no spec changes."""
        factor = self.config.subsampling_factor
        x = self.full.subsampling(pad_to_receptive_field(batch.feats, factor))
        lens = subsampled_lens(batch.feat_lens, factor)
        return SharedPass(
            x=x,
            lens=lens,
            mask=length_mask(lens, x),
            predictor_out=self.full.predict(batch.labels),
            operators=tuple(self._operators(x.shape[1])),
        )

    def _operators(self, num_frames: int) -> Sequence[SsmOperators]:
        """What runs every layer's SSM, computed for all of them at once."""
        layers = [layer.mhssm.ssm for layer in self.full.encoder_layers]
        return ssm_operators(discretise(layers), num_frames).split(len(layers[0].skip))

    def encode(
        self,
        shared: SharedPass,
        spec: SubnetSpec,
        plan: DropoutPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The encoder at `spec`: (N, T', J).

        Args:
            shared: of `share`.
            spec: layers, widths and mode that run.
            plan: what this pass drops; None for nothing.
            generator: of the dropout.
        """
        assert self.space.contains(spec), spec
        plan = plan or DropoutPlan.none(spec.depth)
        x = shared.x
        for index, ffn_dim, dropout in zip(spec.layers, spec.width("ffn_dim"), plan.layers, strict=True):
            x = self.run_layer(x, shared, index, ffn_dim, spec.mode, dropout, generator)
        return self.finish(x)

    def run_layer(
        self,
        x: Tensor,
        shared: SharedPass,
        index: int,
        ffn_dim: int,
        mode: Mode,
        dropout: LayerDropout | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One encoder layer, (N, T', D) to the same.

        Args:
            x: output of the layer before it, or ``shared.x``.
            shared: of `share`.
            index: which layer of the supernet.
            ffn_dim: its feed-forward width.
            mode: directions that run.
            dropout: what the layer drops; None for nothing.
            generator: of the dropout.
        """
        dropout = dropout or LayerDropout()
        layer = self.full.encoder_layers[index]
        width = layer.mhssm.direction_dim
        channels = layer.mhssm.num_directions * width if mode == "offline" else width
        branch = mhssm(
            layer.ssm_norm(x),
            shared.mask,
            slice_mhssm(layer.mhssm, channels),
            slice_operators(shared.operators[index], channels),
            width,
        )
        x = x + dropout.ssm_out(branch, generator)
        weights = slice_feed_forward(layer.ffn, ffn_dim)
        branch = feed_forward(layer.ffn_norm(x), weights, dropout, generator)
        return x + dropout.ffn_out(branch, generator)

    def finish(self, x: Tensor) -> Tensor:
        """Output of the last layer (N, T', D) to the joiner's width (N, T', J)."""
        return self.full.encoder_proj(self.full.norm(x))

    def join(self, encoder_out: Tensor, predictor_out: Tensor) -> Tensor:
        """(..., J) and (..., J) to logits (..., V)."""
        return self.full.join(encoder_out, predictor_out)

    def forward(
        self,
        batch: SpeechBatch,
        spec: SubnetSpec,
        plan: DropoutPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of one spec.

        Returns:
            encoder output (N, T', J), its lengths (N,) and predictor output (N, U + 1, J).
        """
        shared = self.share(batch)
        return self.encode(shared, spec, plan, generator), shared.lens, shared.predictor_out


def is_ssm_parameter(name: str) -> bool:
    """Whether a parameter is the SSM's A or dt, which train in a group of their own (see `DiagonalSsm`)."""
    return name.rsplit(".", 1)[-1] in ("log_dt", "log_neg_real", "imag")
