"""A new elastic dimension is one file (`tests.adapter`) and one line: all parts of todm work with it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from tests.adapter import ADAPTER
from tests.nets import (
    CONFIG,
    MODEL,
    SPACE,
    VOCAB_SIZE,
    make_batch,
    make_exact_batch,
    make_exact_supernet,
    make_supernet,
    write_lang,
)
from todm.config import Config, DropoutConfig, SpaceConfig, load_config
from todm.config.dropout import POLICIES as SHIPPED
from todm.deploy.encoder_graph import build_offline_encoder, build_streaming_encoder
from todm.deploy.graph import Graph
from todm.dropout import POLICIES, build_policy
from todm.errors import UserError
from todm.extract import extract
from todm.model_dir import load_subnet, load_supernet, save_subnet, save_supernet
from todm.nn.dropout import DropoutPlan
from todm.nn.transducer import Transducer
from todm.search.encoding import Encoding
from todm.search.linear_cost import fit_additive
from todm.search.nsga2 import first_specs, grid_specs
from todm.space.cost import count_macs, count_params, count_state_bytes
from todm.space.dimensions import BLOCKS, list_blocks, select_blocks, use_blocks
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

WIDTHS = {"ffn_dim": (8, 16, 24), "adapter_dim": (2, 5)}
WIDE_SPACE = replace(SPACE, widths=WIDTHS)


@pytest.fixture(autouse=True)
def adapter() -> Iterator[None]:
    with use_blocks((*BLOCKS, ADAPTER)):
        yield


def draw_specs(count: int) -> list[SubnetSpec]:
    rng = random.Random(3)
    return [WIDE_SPACE.max(), WIDE_SPACE.min("streaming"), *(WIDE_SPACE.sample(rng) for _ in range(count))]


def test_registration_ends_with_the_with_statement() -> None:
    with use_blocks(BLOCKS):
        assert list_blocks() == BLOCKS
    assert list_blocks() == (*BLOCKS, ADAPTER)


def test_only_a_required_block_may_have_no_dimension() -> None:
    assert replace(ADAPTER, dimensions=(), required=True)
    with pytest.raises(AssertionError, match="adapter"):
        replace(ADAPTER, dimensions=())


def test_a_net_has_the_blocks_whose_dimensions_its_config_lists() -> None:
    config = Config(space=SpaceConfig(widths={**SpaceConfig().widths, "adapter_dim": (2, 5)}))
    assert set(SearchSpace.from_config(config).widths) == set(WIDTHS)
    required = tuple(block for block in BLOCKS if block.required)
    assert select_blocks(WIDTHS) == (*required, ADAPTER)
    assert select_blocks(("ffn_dim",)) == required
    with pytest.raises(UserError, match=r"space\.widths\.ffn_dim .*: missing"):
        select_blocks(("adapter_dim",))
    with use_blocks(BLOCKS), pytest.raises(UserError, match=r"space\.widths\.adapter_dim: not an elastic"):
        SearchSpace.from_config(config)


@torch.no_grad()
def test_configs_and_nets_of_before_the_dimension_stay_the_same(tmp_path: Path) -> None:
    for path in sorted(Path("recipes/librispeech/conf").glob("*.yaml")):
        assert "adapter_dim" not in SearchSpace.from_config(load_config(path)).widths
    batch = make_batch([97, 61], [5, 3])
    whole, lang = tmp_path / "supernet", write_lang(tmp_path / "lang")
    ladder = SPACE.ladder()
    wanted = {}
    with use_blocks(BLOCKS):
        before = make_supernet()
        save_supernet(whole, before.state_dict(), CONFIG, lang)
        for name, spec in ladder.items():
            net = extract(before, spec)
            save_subnet(tmp_path / name, net, CONFIG, lang)
            wanted[name] = before(batch, spec)[0], net.encode(batch.feats, batch.feat_lens)[0]
    now, config = load_supernet(whole)
    assert config == CONFIG and now.space == before.space
    for name, spec in ladder.items():
        net, config = load_subnet(tmp_path / name)
        assert config == CONFIG and net.spec == spec
        assert torch.equal(now(batch, spec)[0], wanted[name][0])
        assert torch.equal(net.encode(batch.feats, batch.feat_lens)[0], wanted[name][1])
        assert count_params(MODEL, spec, VOCAB_SIZE) == sum(p.numel() for p in net.parameters())


def test_a_block_that_cannot_be_imported_is_named() -> None:
    missing = replace(ADAPTER, module="not_installed.adapter:Adapter")
    with use_blocks((*BLOCKS, missing)), pytest.raises(UserError, match="block adapter: not_installed"):
        make_supernet(space=WIDE_SPACE)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_dropout_policy_reaches_the_new_block(policy: str) -> None:
    net = make_exact_supernet(space=WIDE_SPACE)
    config = DropoutConfig(policy=policy, rate=0.5)
    plan = build_policy(config, WIDE_SPACE).policy.plan(WIDE_SPACE.max())
    assert any(layer.output("adapter").strength > 0 for layer in plan.layers)
    if policy in SHIPPED:
        assert all(layer.output("adapter").strength == 0.5 for layer in plan.layers)
        assert plan.strengths()["adapter_out"] == pytest.approx(0.5)
    others = [
        replace(layer, outputs={branch: layer.output(branch) for branch in ("ssm", "ffn")})
        for layer in plan.layers
    ]
    batch, outputs = make_exact_batch([97, 61], [5, 3]), []
    for layers in (plan.layers, tuple(others)):
        generator = torch.Generator().manual_seed(1)
        outputs.append(net.encode(net.share(batch), WIDE_SPACE.max(), DropoutPlan(layers), generator))
    assert not torch.equal(*outputs)


def test_dropout_of_a_branch_follows_the_width_of_its_own_block() -> None:
    alone = build_policy(DropoutConfig(rate=0.3), SPACE).plan(SPACE.uniform(3, {"ffn_dim": 8}, "offline"))
    for width in (2, 5):
        spec = WIDE_SPACE.uniform(3, {"ffn_dim": 8, "adapter_dim": width}, "offline")
        for layer, before in zip(
            build_policy(DropoutConfig(rate=0.3), WIDE_SPACE).plan(spec).layers, alone.layers, strict=True
        ):
            assert layer.output("adapter").strength == pytest.approx(0.3 * width / 5)
            assert [layer.output(branch) for branch in ("ssm", "ffn")] == list(before.outputs.values())
            assert layer.ffn_hidden == before.ffn_hidden


def test_a_step_trains_the_sliced_units() -> None:
    net = make_supernet(space=WIDE_SPACE)
    spec = WIDE_SPACE.min("streaming")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.full.layers[2].get_parameter("adapter.in_proj.weight").detach().clone()
    encoder_out, _, predictor_out = net(make_batch([60, 43], [4, 2]), spec)
    net.join(encoder_out[:, :2], predictor_out[:, :2]).square().sum().backward()
    optimizer.step()
    after = net.full.layers[2].get_parameter("adapter.in_proj.weight").detach()
    changed = (after != before).any(1)
    assert changed[:2].any() and not changed[2:].any()


@torch.no_grad()
def test_extraction_and_counts_are_exact() -> None:
    supernet = make_exact_supernet(space=WIDE_SPACE)
    batch = make_exact_batch([97, 61], [5, 3])
    outputs = []
    for spec in draw_specs(6):
        net = extract(supernet, spec)
        wanted = supernet(batch, spec)[0]
        torch.testing.assert_close(net.encode(batch.feats, batch.feat_lens)[0], wanted)
        outputs.append(wanted)
        assert sum(p.numel() for p in net.parameters()) == count_params(MODEL, spec, VOCAB_SIZE)
    wide = WIDE_SPACE.uniform(3, {"ffn_dim": 8, "adapter_dim": 5}, "offline")
    narrow = WIDE_SPACE.uniform(3, {"ffn_dim": 8, "adapter_dim": 2}, "offline")
    assert not torch.allclose(supernet(batch, wide)[0], supernet(batch, narrow)[0])
    more = count_macs(MODEL, wide, VOCAB_SIZE) - count_macs(MODEL, narrow, VOCAB_SIZE)
    assert more == 3 * 2 * MODEL.d_model * 3 * 100 // 4
    assert count_state_bytes(MODEL, wide) == count_state_bytes(MODEL, narrow)


def test_spec_files_and_names(tmp_path: Path) -> None:
    spec = SubnetSpec(layers=(0, 2), widths={"ffn_dim": (8, 16), "adapter_dim": (2, 5)}, mode="offline")
    spec.save(tmp_path / "spec.json")
    assert SubnetSpec.load(tmp_path / "spec.json") == spec
    assert spec.name.startswith("L2-4x12-off-")


def test_search_works_on_both_dimensions() -> None:
    encoding = Encoding(space=WIDE_SPACE, mode="offline")
    assert encoding.upper == (2, *[1] * 3, *[2] * 3)
    for spec in draw_specs(20):
        if spec.mode == "offline":
            assert encoding.decode(encoding.encode(spec)) == spec
    first = first_specs(WIDE_SPACE, "offline", 12, seed=0)
    assert len({spec.width("adapter_dim")[0] for spec in first}) == 2
    grid = list(grid_specs(WIDE_SPACE, "offline", 5))
    assert len(set(grid)) == len(grid) == 15 and all(WIDE_SPACE.contains(spec) for spec in grid)


def test_latency_model_has_a_coefficient_for_each_dimension() -> None:
    def truth(spec: SubnetSpec) -> float:
        return (
            3.0 + 2.0 * spec.depth + 0.5 * sum(spec.width("ffn_dim")) + 4.0 * sum(spec.width("adapter_dim"))
        )

    specs = [*draw_specs(10), *WIDE_SPACE.shallow_corners("offline")]
    model = fit_additive(specs, [truth(spec) for spec in specs])
    assert model.per_unit == pytest.approx({"ffn_dim": 0.5, "adapter_dim": 4.0})
    assert model(WIDE_SPACE.mid()) == pytest.approx(truth(WIDE_SPACE.mid()))


@torch.no_grad()
def test_onnx_output_equals_the_plain_net() -> None:
    supernet = make_supernet(space=WIDE_SPACE)
    offline = extract(supernet, WIDE_SPACE.mid("offline"))
    batch = make_batch([97, 61], [2, 2])
    got = run(build_offline_encoder(offline), x=batch.feats.numpy(), x_lens=batch.feat_lens.numpy())[0]
    wanted, lens = offline.encode(batch.feats, batch.feat_lens)
    for row, length in enumerate(lens):
        np.testing.assert_allclose(got[row, :length], wanted[row, :length].numpy(), rtol=1e-4, atol=1e-4)
    streaming: Transducer = extract(supernet, WIDE_SPACE.mid("streaming"))
    state = streaming.init_state(1)
    feats = batch.feats[:1, : 4 * 4 + 3]
    wanted, after = streaming.encode_chunk(feats, state)
    outputs = run(
        build_streaming_encoder(streaming, 4),
        x=feats.numpy(),
        state0=state[0].numpy(),
        state1=state[1].numpy(),
    )
    for one, other in zip(outputs, (wanted, *after), strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-4)


def run(graph: Graph, **feeds: np.ndarray) -> list[np.ndarray]:
    model = graph.model({}, opset=18)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feeds)
    return outputs
