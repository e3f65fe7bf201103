"""Supernet and spec to a plain net with weights of its own."""

from __future__ import annotations

import torch

from todm.nn.elastic import slice_feed_forward, slice_mhssm
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.space.spec import SubnetSpec


@torch.no_grad()
def extract(supernet: Supernet, spec: SubnetSpec) -> Transducer:
    """Cut the net of `spec` out of `supernet`: copies of the slices, in eval mode, on the same device.

    The result computes exactly what the supernet computes at `spec` without dropout.

    Raises:
        UserError: `spec` is outside the supernet's space.
    """
    supernet.space.check(spec)
    full = supernet.full
    net = Transducer(supernet.config, spec, supernet.vocab_size).to(full.norm.weight.device)
    for name in ("subsampling", "norm", "encoder_proj", "predictor", "joiner"):
        net.get_submodule(name).load_state_dict(full.get_submodule(name).state_dict())
    for layer, index, ffn_dim in zip(net.encoder_layers, spec.layers, spec.ffn_dims, strict=True):
        source = full.encoder_layers[index]
        layer.ssm_norm.load_state_dict(source.ssm_norm.state_dict())
        layer.ffn_norm.load_state_dict(source.ffn_norm.state_dict())
        channels = layer.mhssm.in_proj.out_features
        for target, part in zip(layer.mhssm.weights(), slice_mhssm(source.mhssm, channels), strict=True):
            target.copy_(part)
        for name, target in layer.mhssm.ssm.named_parameters():
            target.copy_(getattr(source.mhssm.ssm, name)[:channels])
        for target, part in zip(layer.ffn.weights(), slice_feed_forward(source.ffn, ffn_dim), strict=True):
            target.copy_(part)
    return net.eval()
