from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.nets import MODEL, SPACE, make_exact_batch, make_exact_supernet, make_feats, random_specs
from todm.nn.dropout import Drop, DropoutPlan, LayerDropout
from todm.nn.mhssm import MultiHeadSSM
from todm.nn.ssm import block_operators, is_ssm_parameter
from todm.nn.subsampling import subsampled_lens
from todm.nn.supernet import SharedPass, Supernet
from todm.nn.transducer import length_mask
from todm.space.spec import SubnetSpec


def run_all(net: Supernet, specs: list[SubnetSpec], plan: DropoutPlan | None = None) -> dict[str, Tensor]:
    """Gradients of the sum of several full passes, each with a forward of its own."""
    batch = make_exact_batch([60, 43], [4, 2])
    net.zero_grad()
    for index, spec in enumerate(specs):
        encoder_out, _, predictor_out = net(batch, spec, plan)
        weigh(net, encoder_out, predictor_out, index).backward()
    return gradients(net)


def weigh(net: Supernet, encoder_out: Tensor, predictor_out: Tensor, index: int) -> Tensor:
    logits = net.join(encoder_out[:, :, None], predictor_out[:, None])
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(index))
    return (logits * weight).sum()


def gradients(net: Supernet) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("factor", [4, 8])
@torch.no_grad()
def test_shapes(factor: Literal[4, 8]) -> None:
    net = make_exact_supernet(factor=factor)
    batch = make_exact_batch([60, 43, 5], [4, 0, 2])
    for spec in random_specs(3):
        encoder_out, lens, predictor_out = net(batch, spec)
        assert encoder_out.shape == (3, int(subsampled_lens(torch.tensor(60), factor)), MODEL.joiner_dim)
        assert lens.tolist() == subsampled_lens(batch.feat_lens, factor).tolist()
        assert predictor_out.shape == (3, 5, MODEL.joiner_dim)
        assert net.join(encoder_out[:, :5], predictor_out).shape == (3, 5, 11)


@torch.no_grad()
def test_the_spec_takes_effect() -> None:
    """Every layer, every width and the mode count: no two specs give the same."""
    net = make_exact_supernet()
    batch = make_exact_batch([60], [3])
    specs = [
        SubnetSpec(layers=layers, widths={"ffn_dim": (dim,) * len(layers)}, mode=mode)
        for layers in ((0,), (2,), (0, 2), (1, 2), (0, 1, 2))
        for dim in SPACE.widths["ffn_dim"]
        for mode in SPACE.modes
    ]
    specs += [
        SubnetSpec(layers=(0, 1, 2), widths={"ffn_dim": dims}, mode="offline")
        for dims in ((8, 8, 16), (8, 16, 8), (16, 8, 8))
    ]
    outputs = [net(batch, spec)[0] for spec in specs]
    for i, one in enumerate(outputs):
        for other in outputs[:i]:
            assert float((one - other).abs().max()) > 1e-3
    torch.testing.assert_close(outputs[0], net(batch, specs[0])[0])  # no spec leaves a trace


@torch.no_grad()
def test_padding_changes_no_output() -> None:
    net = make_exact_supernet()
    lens = [61, 30, 9]
    batch = make_exact_batch(lens, [2, 2, 2])
    for spec in random_specs(4):
        together, encoder_lens, _ = net(batch, spec)
        for row, length in enumerate(lens):
            alone = replace(
                batch,
                feats=batch.feats[row : row + 1, :length],
                feat_lens=batch.feat_lens[row : row + 1],
                labels=batch.labels[row : row + 1],
            )
            own, own_lens, _ = net(alone, spec)
            assert int(own_lens) == int(encoder_lens[row])
            torch.testing.assert_close(together[row, : int(own_lens)], own[0])
        # Whatever stands in the padding.
        spoiled = batch.feats.clone()
        for row, length in enumerate(lens):
            spoiled[row, length:] = 7.0
        again = net(replace(batch, feats=spoiled), spec)[0]
        mask = length_mask(encoder_lens, again)
        torch.testing.assert_close(again * mask, together * mask)


@torch.no_grad()
def test_a_streaming_spec_uses_no_future_frames_and_an_offline_one_does() -> None:
    net = make_exact_supernet()
    feats = make_feats(103).double()
    changed = feats.clone()
    changed[:, 60:] += 3.0
    batch = make_exact_batch([103], [1])
    for spec in random_specs(6):
        one = net(replace(batch, feats=feats), spec)[0]
        other = net(replace(batch, feats=changed), spec)[0]
        # Frame t sees features up to 4 t + 6.
        same = torch.isclose(one, other, atol=1e-6).all(-1)[0]
        if spec.mode == "streaming":
            assert bool(same[:14].all()) and not bool(same[14])
        else:
            assert not bool(same[0])


def test_detached_shared_pass_gives_the_gradients_of_separate_passes() -> None:
    net = make_exact_supernet()
    specs = random_specs(3, seed=4)
    naive = run_all(net, specs)

    net.zero_grad()
    batch = make_exact_batch([60, 43], [4, 2])
    whole = net.share(batch)
    shared, pending = whole.detached()
    for index, spec in enumerate(specs):
        encoder_out = net.encode(shared, spec)
        weigh(net, encoder_out, shared.predictor_out, index).backward()
    flowing = [(tensor, leaf.grad) for tensor, leaf in pending if leaf.grad is not None]
    torch.autograd.backward([tensor for tensor, _ in flowing], [grad for _, grad in flowing])
    together = gradients(net)

    assert together.keys() == naive.keys()
    assert any("subsampling" in name for name in naive) and any("log_dt" in name for name in naive)
    for name, grad in naive.items():
        torch.testing.assert_close(together[name], grad, rtol=1e-9, atol=1e-9 * float(grad.abs().max()))


def test_detached_tensors_keep_their_values_and_need_gradients() -> None:
    net = make_exact_supernet()
    whole = net.share(make_exact_batch([60, 43], [4, 2]))
    shared, pending = whole.detached()
    assert isinstance(shared, SharedPass)
    assert torch.equal(shared.x, whole.x) and shared.x.is_leaf and shared.x.requires_grad
    assert len(pending) == 2 + 5 * MODEL.num_layers
    assert all(torch.equal(tensor, leaf) and leaf.grad is None for tensor, leaf in pending)


def test_layers_that_a_spec_leaves_out_get_no_gradient() -> None:
    net = make_exact_supernet()
    grads = run_all(net, [SubnetSpec(layers=(0, 2), widths={"ffn_dim": (8, 16)}, mode="streaming")])
    own = {name for name, grad in grads.items() if bool((grad != 0).any())}
    assert not any(name.startswith("full.layers.1.") for name in own)
    width = grads["full.layers.0.ffn.in_proj.weight"]
    assert bool((width[:8] != 0).any(1).all()) and not bool((width[8:] != 0).any())
    channels = grads["full.layers.2.mhssm.ssm.out_re"]
    half = len(channels) // 2
    assert bool((channels[:half] != 0).any(1).all()) and not bool((channels[half:] != 0).any())


@torch.no_grad()
def test_dropout_plan_is_an_argument() -> None:
    net = make_exact_supernet()
    batch = make_exact_batch([60], [3])
    spec = SPACE.max()
    plain = net(batch, spec)[0]
    assert torch.equal(net(batch, spec, DropoutPlan.none(3))[0], plain)
    sites = [
        LayerDropout(ffn_hidden=Drop(0.5)),
        *(LayerDropout(outputs={b: Drop(0.5)}) for b in ("ffn", "ssm")),
    ]
    for dropping in sites:
        for layer in range(3):
            plan = DropoutPlan(tuple(dropping if i == layer else LayerDropout() for i in range(3)))
            one = net(batch, spec, plan, torch.Generator().manual_seed(1))[0]
            same = net(batch, spec, plan, torch.Generator().manual_seed(1))[0]
            other = net(batch, spec, plan, torch.Generator().manual_seed(2))[0]
            assert torch.equal(one, same)
            assert not torch.allclose(one, other) and not torch.allclose(one, plain)
    assert torch.equal(net(batch, spec)[0], plain)


def test_ssm_parameters_are_found_by_name() -> None:
    net = make_exact_supernet()
    found = [name for name, _ in net.named_parameters() if is_ssm_parameter(name)]
    assert len(found) == 3 * MODEL.num_layers
    assert all(".ssm." in name for name in found)


@torch.no_grad()
def test_gate_pairs_heads_of_one_direction() -> None:
    """The backward half can be left out: the forward heads' share of the output is the same without it."""
    torch.manual_seed(0)
    both = MultiHeadSSM(6, 8, 2, 3)
    forward = MultiHeadSSM(6, 8, 2, 3, bidirectional=False)
    width = both.direction_dim
    assert width == 8 and both.num_directions == 2 and forward.num_directions == 1
    for part in ("in_proj.weight", "in_proj.bias"):
        forward.get_parameter(part).copy_(both.get_parameter(part)[:width])
    for name, parameter in forward.ssm.named_parameters():
        parameter.copy_(both.ssm.get_parameter(name)[:width])
    forward.out_proj.weight.copy_(both.out_proj.weight[:, : width // 2])
    forward.out_proj.bias.copy_(both.out_proj.bias)
    both.out_proj.weight[:, width // 2 :] = 0.0
    x, mask = torch.randn(2, 9, 6), torch.ones(2, 9, 1)

    one = both(x, mask, block_operators(both.ssm.coefficients(), 4))
    torch.testing.assert_close(forward(x, mask, block_operators(forward.ssm.coefficients(), 4)), one)
