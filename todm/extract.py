"""Supernet and spec to a plain net with weights of its own."""

from __future__ import annotations

from dataclasses import replace

import torch

from todm.nn.elastic import live_units, slice_feed_forward, slice_mhssm, without_dead_units
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.space.spec import SubnetSpec


@torch.no_grad()
def extract(supernet: Supernet, spec: SubnetSpec) -> Transducer:
    """Cut the net of `spec` out of `supernet`: copies of the slices, in eval mode, same device and dtype.

    The result computes exactly what the supernet computes at `spec` without dropout. Hidden units whose
    in- or out-weights are all zero stay behind, so that its own spec can be narrower: `live_spec`.

    Raises:
        UserError: `spec` is outside the supernet's space.
    """
    supernet.space.check(spec)
    full = supernet.full
    live = live_spec(supernet, spec)
    net = Transducer(supernet.config, live, supernet.vocab_size).to(full.norm.weight)
    for name in ("subsampling", "norm", "encoder_proj", "predictor", "joiner"):
        net.get_submodule(name).load_state_dict(full.get_submodule(name).state_dict())
    for layer, index, ffn_dim in zip(net.encoder_layers, spec.layers, spec.width("ffn_dim"), strict=True):
        source = full.encoder_layers[index]
        layer.ssm_norm.load_state_dict(source.ssm_norm.state_dict())
        layer.ffn_norm.load_state_dict(source.ffn_norm.state_dict())
        channels = layer.mhssm.in_proj.out_features
        for target, part in zip(layer.mhssm.weights(), slice_mhssm(source.mhssm, channels), strict=True):
            target.copy_(part)
        for name, target in layer.mhssm.ssm.named_parameters():
            target.copy_(getattr(source.mhssm.ssm, name)[:channels])
        weights = without_dead_units(slice_feed_forward(source.ffn, ffn_dim))
        for name, part in weights._asdict().items():
            if part is not None:
                getattr(layer.ffn.weights(), name).copy_(part)
    return net.eval()


def live_spec(supernet: Supernet, spec: SubnetSpec) -> SubnetSpec:
    """The spec of the net that `extract` returns for `spec`: its widths count the units that do something."""
    slices = (
        slice_feed_forward(supernet.full.encoder_layers[index].ffn, ffn_dim)
        for index, ffn_dim in zip(spec.layers, spec.width("ffn_dim"), strict=True)
    )
    return replace(spec, widths={"ffn_dim": tuple(int(live_units(weights).sum()) for weights in slices)})
