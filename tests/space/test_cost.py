"""The closed form against nets that were really built."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.nets import MODEL, SPACE, VOCAB_SIZE, make_supernet, random_specs
from todm.config import Config, Mode, ModelConfig
from todm.extract import extract
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.space.cost import count_macs, count_params, count_state_bytes
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def numel(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@st.composite
def nets(draw: st.DrawFn) -> tuple[ModelConfig, SubnetSpec, int]:
    depth = draw(st.integers(1, 3))
    factors: list[Literal[4, 8]] = [4, 8]
    modes: list[Mode] = ["offline", "streaming"]
    model = ModelConfig(
        num_layers=depth,
        d_model=draw(st.integers(1, 20)),
        num_heads=draw(st.sampled_from([4, 8, 12])),
        head_dim=draw(st.integers(1, 5)),
        state_dim=draw(st.integers(1, 5)),
        subsampling_factor=draw(st.sampled_from(factors)),
        subsampling_channels=draw(st.integers(1, 5)),
        predictor_dim=draw(st.integers(1, 9)),
        context_size=draw(st.integers(1, 3)),
        joiner_dim=draw(st.integers(1, 9)),
    )
    widths = tuple(draw(st.lists(st.integers(1, 30), min_size=depth, max_size=depth)))
    spec = SubnetSpec(
        layers=tuple(range(depth)), widths={"ffn_dim": widths}, mode=draw(st.sampled_from(modes))
    )
    return model, spec, draw(st.integers(2, 40))


@settings(max_examples=50, deadline=None)
@given(nets())
def test_closed_form_of_any_dimensions(case: tuple[ModelConfig, SubnetSpec, int]) -> None:
    model, spec, vocab_size = case
    assert count_params(model, spec, vocab_size) == numel(Transducer(model, spec, vocab_size))


def test_extracted_nets_4x_8x() -> None:
    for factor in (4, 8):
        supernet = make_supernet(factor=factor)
        model = replace(MODEL, subsampling_factor=factor)
        counts = set()
        for spec in random_specs(8):
            counts.add(numel(extract(supernet, spec)))
            assert numel(extract(supernet, spec)) == count_params(model, spec, VOCAB_SIZE)
        assert len(counts) > 4


def test_streaming_only_space_has_no_backward_heads() -> None:
    space = replace(SPACE, modes=("streaming",))
    supernet = make_supernet(space=space)
    assert numel(supernet.full) == count_params(MODEL, space.max(), VOCAB_SIZE)
    assert numel(supernet.full) < numel(make_supernet().full)
    for spec in random_specs(4, space=space):
        assert numel(extract(supernet, spec)) == count_params(MODEL, spec, VOCAB_SIZE)


def test_default_min_is_at_most_45_percent_of_max() -> None:
    config = Config()
    space = SearchSpace.from_config(config)
    small, large = (count_params(config.model, spec, 64) for spec in (space.min(), space.max()))
    assert small <= 0.45 * large
    # Sandwiched in one supernet: its own size is that of its largest net.
    assert large == numel(Supernet(config.model, space, 64).full)


def test_macs_are_those_that_torch_counts() -> None:
    for factor in (4, 8):
        supernet = make_supernet(factor=factor)
        model = replace(MODEL, subsampling_factor=factor)
        for spec in random_specs(4):
            net = extract(supernet, spec)
            few, many = (products(net, factor * frames + factor - 1) for frames in (5, 15))
            channels = net.encoder_layers[0].mhssm.in_proj.out_features
            ssm = spec.depth * channels * (6 * MODEL.state_dim + 1)
            joiner = MODEL.joiner_dim * VOCAB_SIZE
            per_frame = (many - few) // 10 + ssm + joiner
            assert count_macs(model, spec, VOCAB_SIZE) == per_frame * 100 // factor


def products(net: Transducer, num_frames: int) -> int:
    """Multiplications of convolutions and linear layers in one pass; the SSM's are batched products."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net.encode(torch.zeros(1, num_frames, 80), torch.tensor([num_frames]))
    flops = counter.get_flop_counts()["Global"]
    return sum(count for op, count in flops.items() if "bmm" not in str(op)) // 2


def test_state_is_what_a_stream_carries() -> None:
    supernet = make_supernet()
    for spec in random_specs(6):
        if spec.mode == "offline":
            assert count_state_bytes(MODEL, spec) == 0
        else:
            state = extract(supernet, spec).init_state(1)
            assert count_state_bytes(MODEL, spec) == sum(part.numel() * part.element_size() for part in state)
