"""Cut a plain net with weights of its own out of a supernet."""

from __future__ import annotations

from dataclasses import replace

import torch

from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.space.spec import SubnetSpec


@torch.no_grad()
def extract(supernet: Supernet, spec: SubnetSpec) -> Transducer:
    """Copy the slices of `spec` out of `supernet` into a net in eval mode, of the same device and dtype.

    The result computes exactly what the supernet computes at `spec` without dropout. Dead hidden units (all
    input or all output weights zero) are removed, so its own spec can be narrower: `live_spec`.

    Raises:
        UserError: `spec` is outside the supernet's space.
    """
    supernet.space.check(spec)
    full = supernet.full
    net = Transducer(supernet.config, live_spec(supernet, spec), supernet.vocab_size).to(full.norm.weight)
    for name in ("subsampling", "norm", "encoder_proj", "predictor", "joiner"):
        net.get_submodule(name).load_state_dict(full.get_submodule(name).state_dict())
    for target, index, layer in zip(net.encoder_layers, spec.layers, spec.layer_specs(), strict=True):
        target.load_slice(full.encoder_layers[index], layer)
    return net.eval()


def live_spec(supernet: Supernet, spec: SubnetSpec) -> SubnetSpec:
    """The spec of the net that `extract` returns for `spec`: the widths that remain without dead units."""
    layers = [
        supernet.full.encoder_layers[index].live_spec(layer)
        for index, layer in zip(spec.layers, spec.layer_specs(), strict=True)
    ]
    return replace(spec, widths={name: [layer.width(name) for layer in layers] for name in spec.widths})
