"""Extraction: the net that is cut out computes what the supernet computes, and owns its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_exact_batch, make_exact_supernet, random_specs
from todm.data.augment import append_silence
from todm.errors import UserError
from todm.extract import extract
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


@torch.no_grad()
def assert_same_net(supernet: Supernet, spec: SubnetSpec) -> None:
    net = extract(supernet, spec)
    batch = make_exact_batch([97, 61, 30, 5], [5, 0, 3, 2])
    wanted, lens, predictor_out = supernet(batch, spec)
    got, got_lens = net.encode(batch.feats, batch.feat_lens)
    assert torch.equal(got_lens, lens)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(net.predict(batch.labels), predictor_out)
    logits = net.join(got[:, :3], predictor_out[:, :3])
    torch.testing.assert_close(logits, supernet.join(wanted[:, :3], predictor_out[:, :3]))


@pytest.mark.parametrize("factor", [4, 8])
def test_equals_the_supernet_at_many_specs(factor: Literal[4, 8]) -> None:
    for seed in range(3):
        supernet = make_exact_supernet(seed=seed, factor=factor)
        for spec in random_specs(10, seed=seed):
            assert_same_net(supernet, spec)


def test_equals_a_streaming_only_supernet() -> None:
    space = replace(SPACE, modes=("streaming",))
    supernet = make_exact_supernet(space=space)
    for spec in random_specs(3, space=space):
        assert_same_net(supernet, spec)


def test_layers_need_not_be_the_space_s_own_choice() -> None:
    supernet = make_exact_supernet()
    assert_same_net(supernet, SubnetSpec(layers=(1,), widths={"ffn_dim": (24,)}, mode="streaming"))
    assert_same_net(supernet, SubnetSpec(layers=(1, 2), widths={"ffn_dim": (24, 8)}, mode="offline"))


def test_nothing_elastic_is_left() -> None:
    net = extract(make_exact_supernet(), SPACE.mid())
    assert type(net) is Transducer and not net.training
    for module in net.modules():
        assert not isinstance(module, Supernet)
        source = type(module).__module__
        assert source.startswith("torch.nn") or source.startswith("todm.nn")
        assert source not in ("todm.nn.supernet",)
    assert not any("simple" in name for name in net.state_dict())


def test_weights_are_copies_of_their_own() -> None:
    supernet = make_exact_supernet()
    spec = SPACE.min("streaming")
    net = extract(supernet, spec)
    theirs = {tensor.untyped_storage().data_ptr() for tensor in supernet.state_dict().values()}
    for name, tensor in net.state_dict().items():
        assert tensor.untyped_storage().data_ptr() not in theirs, name
        assert tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    assert all(parameter.requires_grad for parameter in net.parameters())
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_extraction_leaves_the_supernet_as_it_was() -> None:
    supernet = make_exact_supernet().train()
    extract(supernet, SPACE.max())
    assert supernet.training


@pytest.mark.parametrize(
    "spec",
    [
        SubnetSpec(layers=(0, 3), widths={"ffn_dim": (8, 8)}, mode="offline"),
        SubnetSpec(layers=(0,), widths={"ffn_dim": (9,)}, mode="offline"),
    ],
)
def test_outside_the_space(spec: SubnetSpec) -> None:
    with pytest.raises(UserError, match="outside the trained space"):
        extract(make_exact_supernet(), spec)


def test_mode_that_was_never_trained() -> None:
    space = SearchSpace(num_layers=3, depths=(3,), widths={"ffn_dim": (8,)}, modes=("streaming",))
    with pytest.raises(UserError, match="outside the trained space"):
        extract(
            make_exact_supernet(space=space),
            SubnetSpec(layers=(0, 1, 2), widths={"ffn_dim": (8, 8, 8)}, mode="offline"),
        )


@torch.no_grad()
def test_predict_step_equals_predict() -> None:
    net = extract(make_exact_supernet(), SPACE.max())
    labels = torch.randint(1, VOCAB_SIZE, (2, 6))
    whole = net.predict(labels)
    context = torch.cat((net.predictor.start(2), labels), dim=1)
    for u in range(7):
        step = net.predict_step(context[:, u : u + net.context_size])
        torch.testing.assert_close(step, whole[:, u])


@torch.no_grad()
def test_an_offline_net_appends_silence_itself() -> None:
    """The same as audio that ends in silence; a streaming net appends none; no audio stays no audio."""
    supernet = make_exact_supernet(model=replace(MODEL, end_silence_frames=20))
    net = extract(supernet, SPACE.mid())
    batch = make_exact_batch([61, 30, 5], [1, 1, 1])
    longer = append_silence(batch, 20)
    wanted, wanted_lens, _ = supernet(longer, SPACE.mid())
    got, lens = net.encode(batch.feats, batch.feat_lens)
    assert lens.tolist() == [*wanted_lens.tolist()[:2], 0]
    for row, frames in enumerate(lens.tolist()):
        torch.testing.assert_close(got[row, :frames], wanted[row, :frames])
    streaming = extract(supernet, SPACE.mid("streaming"))
    assert streaming.end_silence_frames == 0
    assert streaming.encode(batch.feats, batch.feat_lens)[1].tolist() == [14, 6, 0]
