"""The supernet: one set of weights that runs at any spec, ``model(batch, spec)``.

Shapes: N batch, T feature frames, T' encoder frames, U labels, J joiner width, V vocabulary.

Features, subsampling, predictor and the SSM's operators are the same for all specs. They are computed once
per step as a `SharedPass`; `encode` then slices each layer to the spec (`EncoderLayer.slice_branches`) and
runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from todm.config import Mode, ModelConfig
from todm.nn.block import LayerContext, run_layer
from todm.nn.dropout import DropoutPlan
from todm.nn.encoder import prepare_layers
from todm.nn.subsampling import subsampled_lens
from todm.nn.transducer import Transducer, length_mask, pad_to_receptive_field
from todm.space.space import SearchSpace
from todm.space.spec import LayerSpec, SubnetSpec


class SpeechBatch(Protocol):
    """Fields of a batch that the supernet reads: features (N, T, 80), their lengths, labels (N, U)."""

    @property
    def feats(self) -> Tensor: ...
    @property
    def feat_lens(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class SharedPass:
    """Tensors of a step that all specs share.

    Args:
        x: subsampled features, (N, T', D).
        lens: encoder frames, (N,) int64.
        mask: 1 inside an utterance, (N, T', 1).
        predictor_out: (N, U + 1, J).
        prepared: for each layer of the supernet, by block name, a tuple of tensors (`Block.prepare`).
    """

    x: Tensor
    lens: Tensor
    mask: Tensor
    predictor_out: Tensor
    prepared: tuple[Mapping[str, Any], ...]

    def detached(self) -> tuple[SharedPass, list[tuple[Tensor, Tensor]]]:
        """Copy the tensors, detached from the graph; returns them and the pairs (original, copy).

        Gradients of several passes add up in the copies; one `torch.autograd.backward` from the originals
        then runs the shared part once, with the same result as a shared part in every pass.
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
            prepared=tuple(
                {name: type(values)(*map(cut, values)) for name, values in layer.items()}
                for layer in self.prepared
            ),
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
        # Linear joiner of the smoothed loss that finds the pruning band; training only.
        self.simple_am_proj = nn.Linear(config.joiner_dim, vocab_size)
        self.simple_lm_proj = nn.Linear(config.joiner_dim, vocab_size)

    def share(self, batch: SpeechBatch, label_context: Tensor | None = None) -> SharedPass:
        """Compute what does not depend on the spec.

        Args:
            batch: features and labels.
            label_context: (N, K) int64, the labels before each utterance; None starts a stream.
        """
        factor = self.config.subsampling_factor
        x = self.full.subsampling(pad_to_receptive_field(batch.feats, factor))
        lens = subsampled_lens(batch.feat_lens, factor)
        return SharedPass(
            x=x,
            lens=lens,
            mask=length_mask(lens, x),
            predictor_out=self.full.predict(batch.labels, label_context),
            prepared=tuple(prepare_layers(self.full.encoder_layers, x.shape[1])),
        )

    def encode(
        self,
        shared: SharedPass,
        spec: SubnetSpec,
        plan: DropoutPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Run the encoder at `spec`.

        Args:
            shared: result of `share`.
            spec: layers, widths and mode that run.
            plan: dropout of the pass; None for no dropout.
            generator: random numbers of the dropout.

        Returns:
            (N, T', J).
        """
        assert self.space.contains(spec), spec
        plan = plan or DropoutPlan.none(spec.depth)
        x = shared.x
        for index, layer, dropout in zip(spec.layers, spec.layer_specs(), plan.layers, strict=True):
            context = LayerContext(mask=shared.mask, dropout=dropout, generator=generator)
            x = self.run_layer(x, shared, index, layer, context)
        return self.finish(x)

    def run_layer(
        self,
        x: Tensor,
        shared: SharedPass,
        index: int,
        layer: LayerSpec,
        context: LayerContext | None = None,
    ) -> Tensor:
        """Run one encoder layer, (N, T', D) to the same shape.

        Args:
            x: output of the layer before it, or ``shared.x``.
            shared: result of `share`.
            index: layer of the supernet.
            layer: its widths and mode.
            context: mask and dropout; None for the mask of `shared` without dropout.
        """
        branches = self.full.encoder_layers[index].slice_branches(layer, shared.prepared[index])
        return run_layer(x, branches, context or LayerContext(mask=shared.mask))[0]

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
