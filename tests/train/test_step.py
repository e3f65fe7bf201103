"""One sandwich step: its gradients, what the students learn from, and that it learns."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any, Literal
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.nets import (
    MODEL,
    SPACE,
    VOCAB_SIZE,
    make_exact_batch,
    make_exact_supernet,
    make_supernet,
    random_specs,
)
from todm.config import DistillConfig, DropoutConfig, LossConfig, OptimConfig, TrainConfig
from todm.data.augment import append_silence
from todm.dropout import build_policy
from todm.losses import (
    DivergenceOptions,
    LatticeNodes,
    TransducerInputs,
    TransducerLoss,
    TransducerLossOptions,
    lattice_divergence,
    rnnt_loss,
)
from todm.losses.band import feasible_size, make_diagonal_band
from todm.nn.ssm import is_ssm_parameter
from todm.nn.supernet import SharedPass, Supernet
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec
from todm.train.optim import build_optimizer
from todm.train.passes import carry_label_contexts, drop_label_contexts
from todm.train.step import SandwichStep
from todm.train.step_losses import PassLoss

BATCH = make_exact_batch([70, 52, 60], [5, 3, 0])


def make_config(
    *,
    lattice: Literal["full", "collapsed", "none"] = "full",
    objective: Literal["distill_only", "distill_plus_rnnt"] = "distill_plus_rnnt",
    warmup: int = 0,
) -> TrainConfig:
    """No dropout, a weight of the divergence that is not 1."""
    return TrainConfig(
        loss=LossConfig(prune_range=3, warmup_steps=warmup),
        distill=DistillConfig(lattice=lattice, objective=objective, weight=0.7, warmup_steps=warmup),
        dropout=DropoutConfig(rate=0.0),
    )


def take_step(
    net: Supernet, config: TrainConfig, specs: list[SubnetSpec], *, step: int = 1000
) -> tuple[list[PassLoss], dict[str, Tensor]]:
    net.zero_grad()
    run = SandwichStep(net, config, build_policy(config.dropout, net.space))
    weight = net.simple_am_proj.weight
    device = weight.device
    batch = replace(BATCH, feats=BATCH.feats.to(weight.dtype)).to(device)
    losses = run(batch, specs, step=step, generator=torch.Generator(device).manual_seed(0)).on_host()
    return losses, {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def one_pass(
    net: Supernet, config: TrainConfig, spec: SubnetSpec, teacher: TransducerLoss | None
) -> TransducerLoss:
    """A full pass of its own; the teacher's when there is none yet."""
    encoder_out, lens, predictor_out = net(BATCH, spec)
    first = teacher is None
    inputs = TransducerInputs(
        encoder_out=encoder_out,
        predictor_out=predictor_out,
        join=net.join,
        labels=BATCH.labels,
        encoder_lens=lens,
        label_lens=BATCH.label_lens,
        am=net.simple_am_proj(encoder_out) if first else None,
        lm=net.simple_lm_proj(predictor_out) if first else None,
        band=None if teacher is None else teacher.band,
    )
    return rnnt_loss(inputs, TransducerLossOptions.from_config(config.loss))


def test_a_step_by_the_kernels_for_gpus_is_the_step() -> None:
    gpu = pytest.importorskip("tests.kernels.interpreter")
    config, specs = make_config(), random_specs(1)
    losses, gradients = take_step(make_supernet(), config, specs)
    with gpu.kernels():
        found_losses, found = take_step(make_supernet().to(gpu.DEVICE), config, specs)
    for one, other in zip(found_losses, losses, strict=True):
        assert one.rnnt == pytest.approx(other.rnnt, rel=1e-4)
        assert one.parts == pytest.approx(other.parts, rel=1e-4)
    assert found.keys() == gradients.keys()
    for name, gradient in found.items():
        expected = gradients[name]
        size = expected.abs().max().item()
        torch.testing.assert_close(gradient.cpu(), expected, rtol=1e-3, atol=1e-4 * size, msg=name)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_a_batch_in_parts_is_the_batch(count: int) -> None:
    config = make_config()
    specs = random_specs(1)
    whole_losses, whole = take_step(make_exact_supernet(), config, specs)
    part_losses, parts = take_step(make_exact_supernet(), replace(config, grad_accum_steps=count), specs)
    assert parts.keys() == whole.keys()
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, msg=name)
    for one, other in zip(part_losses, whole_losses, strict=True):
        assert one.spec == other.spec and one.rnnt == pytest.approx(other.rnnt, rel=1e-5)
        assert one.parts == pytest.approx(other.parts, rel=1e-4)


def test_a_step_brings_its_numbers_to_the_host_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a number waits for the device: once in a step, however many passes and parts it has."""
    config = replace(make_config(), grad_accum_steps=2)
    config = replace(config, contrastive=replace(config.contrastive, weight=0.3))
    reads = []
    plain = Tensor.tolist

    def tolist(x: Tensor) -> Any:
        reads.append(x.numel())
        return plain(x)

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "tolist", tolist)
        patch.setattr(Tensor, "item", mock.Mock(side_effect=AssertionError("a number read by itself")))
        run = SandwichStep(make_exact_supernet(), config, build_policy(config.dropout, SPACE))
        losses = run(
            BATCH, [SPACE.max(), SPACE.min()], step=1000, generator=torch.Generator().manual_seed(0)
        ).on_host()
    assert [list(loss.parts) for loss in losses] == [["simple", "contrastive"], ["distill"]]
    assert all(isinstance(x, float) for loss in losses for x in (loss.rnnt, *loss.parts.values()))
    assert reads == [2 * (3 + 2)]


def divergence(
    net: Supernet, config: TrainConfig, student: TransducerLoss, teacher: TransducerLoss
) -> Tensor:
    lens = net.share(BATCH).lens
    return lattice_divergence(
        student.log_probs,
        teacher.log_probs.detach(),
        LatticeNodes(band=teacher.band, labels=BATCH.labels, encoder_lens=lens, label_lens=BATCH.label_lens),
        DivergenceOptions.from_config(config.distill),
    ).sum()


def start_losses(net: Supernet, spec: SubnetSpec) -> tuple[TransducerLoss, TransducerLoss]:
    """Loss on a diagonal of two symbols without label context, and the smoothed loss of detached inputs."""
    encoder_out, lens, predictor_out = net(BATCH, spec)
    predictor_out = predictor_out[:, :1].expand_as(predictor_out)
    num_labels = BATCH.labels.shape[1]
    size = feasible_size(2, lens, BATCH.label_lens, num_labels)
    band = make_diagonal_band(
        lens, BATCH.label_lens, size, num_frames=encoder_out.shape[1], num_labels=num_labels
    )

    def loss(encoder_out: Tensor, predictor_out: Tensor, **kwargs: Any) -> TransducerLoss:
        inputs = TransducerInputs(
            encoder_out=encoder_out,
            predictor_out=predictor_out,
            join=net.join,
            labels=BATCH.labels,
            encoder_lens=lens,
            label_lens=BATCH.label_lens,
            **kwargs,
        )
        return rnnt_loss(inputs)

    still = encoder_out.detach(), predictor_out.detach()
    smoothed = loss(*still, am=net.simple_am_proj(still[0]), lm=net.simple_lm_proj(still[1]))
    return loss(encoder_out, predictor_out, band=band), smoothed


@pytest.mark.parametrize("lattice", ["full", "collapsed", "none"])
@pytest.mark.parametrize("objective", ["distill_plus_rnnt", "distill_only"])
def test_gradients_are_those_of_the_summed_losses(
    lattice: Literal["full", "collapsed", "none"],
    objective: Literal["distill_only", "distill_plus_rnnt"],
) -> None:
    net = make_exact_supernet()
    config = make_config(lattice=lattice, objective=objective)
    specs = random_specs(2, seed=1)
    losses, got = take_step(net, config, specs)

    net.zero_grad()
    teacher = one_pass(net, config, specs[0], None)
    _, pruned_scale = config.loss.pruned_scales
    total = config.loss.simple_scales[1] * teacher.simple.sum() + pruned_scale * teacher.pruned.sum()
    for spec, loss in zip(specs[1:], losses[1:], strict=True):
        student = one_pass(net, config, spec, teacher)
        assert loss.rnnt == pytest.approx(student.pruned.sum().item())
        if lattice == "none" or objective == "distill_plus_rnnt":
            total = total + pruned_scale * student.pruned.sum()
        if lattice != "none":
            apart = divergence(net, config, student, teacher)
            assert loss.parts == {"distill": pytest.approx(apart.item())}
            total = total + config.distill.weight * apart
        else:
            assert loss.parts == {}
    total.backward()

    assert losses[0].rnnt == pytest.approx(teacher.pruned.sum().item())
    assert losses[0].parts == {"simple": pytest.approx(teacher.simple.sum().item())}
    assert [loss.spec for loss in losses] == specs
    wanted = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert got.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(got[name], grad)


def test_students_do_not_move_the_teacher() -> None:
    """What only the max net has gets the same gradient with or without students."""
    net = make_exact_supernet()
    config = make_config(objective="distill_only")
    students = [SubnetSpec(layers=(0, 2), widths={"ffn_dim": (8, 8)}, mode="offline")]
    _, alone = take_step(net, config, [SPACE.max()])
    _, together = take_step(net, config, [SPACE.max(), *students])
    for name, grad in alone.items():
        if name.startswith(("full.layers.1.ffn", "simple_am_proj")):
            torch.testing.assert_close(together[name], grad)
    assert not torch.allclose(
        together["full.layers.0.ffn.in_proj.weight"], alone["full.layers.0.ffn.in_proj.weight"]
    )


def test_gradients_add_to_those_that_are_there() -> None:
    net = make_exact_supernet()
    config = make_config()
    _, once = take_step(net, config, [SPACE.max(), SPACE.min()])
    run = SandwichStep(net, config, build_policy(config.dropout, net.space))
    run(BATCH, [SPACE.max(), SPACE.min()], step=1000, generator=torch.Generator().manual_seed(0))
    for name, parameter in net.named_parameters():
        if name in once:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, 2 * once[name])


def test_before_distillation_has_its_weight_students_learn_from_the_labels() -> None:
    net = make_exact_supernet()
    specs = [SPACE.max(), SPACE.min()]
    config = make_config(objective="distill_only", warmup=100)
    losses, early = take_step(net, config, specs, step=0)
    assert losses[1].parts == {}
    _, plain = take_step(net, replace(config, distill=replace(config.distill, lattice="none")), specs, step=0)
    for name, grad in plain.items():
        torch.testing.assert_close(early[name], grad)


def test_streaming_students_may_learn_from_the_labels_alone() -> None:
    net = make_exact_supernet()
    specs = [SPACE.max(), SPACE.max("streaming"), SPACE.min()]
    config = make_config(objective="distill_only")
    config = replace(config, distill=replace(config.distill, across_modes=False))
    losses, _ = take_step(net, config, specs)
    assert [list(loss.parts) for loss in losses] == [["simple"], [], ["distill"]]
    _, got = take_step(net, config, specs[:2])
    _, plain = take_step(net, make_config(lattice="none"), specs[:2])
    for name, grad in plain.items():
        torch.testing.assert_close(got[name], grad)


def test_warm_up_moves_from_the_smoothed_to_the_pruned_loss() -> None:
    net = make_exact_supernet()
    config = make_config(lattice="none", warmup=100)

    def simple_gradient(step: int) -> Tensor:
        return take_step(net, config, [SPACE.max()], step=step)[1]["simple_lm_proj.weight"]

    begin, middle, end = simple_gradient(0), simple_gradient(50), simple_gradient(5000)
    torch.testing.assert_close(middle, 0.75 * begin)
    torch.testing.assert_close(end, 0.5 * begin)
    joiner = [take_step(net, config, [SPACE.max()], step=s)[1]["full.joiner.output.weight"] for s in (0, 100)]
    torch.testing.assert_close(joiner[0], 0.1 * joiner[1])


def test_dropout_is_drawn_from_the_generator() -> None:
    net = make_exact_supernet()
    config = replace(make_config(), dropout=DropoutConfig(rate=0.3))
    run = SandwichStep(net, config, build_policy(config.dropout, SPACE))

    def rnnt(seed: int) -> list[float]:
        net.zero_grad()
        losses = run(
            BATCH, [SPACE.max(), SPACE.mid()], step=0, generator=torch.Generator().manual_seed(seed)
        ).on_host()
        return [loss.rnnt or 0.0 for loss in losses]

    assert rnnt(1) == rnnt(1)
    assert all(one != other for one, other in zip(rnnt(1), rnnt(2), strict=True))


@pytest.mark.parametrize("mode", SPACE.modes)
def test_a_space_of_one_spec(mode: Literal["offline", "streaming"]) -> None:
    space = SearchSpace(num_layers=3, depths=(3,), widths={"ffn_dim": (8,)}, modes=(mode,))
    net = make_exact_supernet(space=space)
    losses, grads = take_step(net, make_config(), [space.max()])
    assert len(losses) == 1
    assert grads.keys() == {name for name, _ in net.named_parameters()}


def test_the_diagonal_start_runs_the_largest_net_of_each_mode() -> None:
    net = make_exact_supernet()
    config = make_config(warmup=100)
    config = replace(
        config,
        loss=replace(
            config.loss,
            alignment_warmup_steps=10,
            alignment_warmup_range=2,
            alignment_warmup_label_context_dropout=1.0,
            path_power=3.0,
        ),
        dropout=DropoutConfig(rate=0.5),
    )
    specs = [SPACE.max(), SPACE.min()]
    losses, got = take_step(net, config, specs, step=9)
    net.zero_grad()
    assert [loss.spec for loss in losses] == [SPACE.max("offline"), SPACE.max("streaming")]
    for started in losses:
        loss, smoothed = start_losses(net, started.spec)
        (loss.pruned.sum() + smoothed.simple.sum()).backward()
        assert started.rnnt == pytest.approx(loss.pruned.sum().item())
        assert started.parts == {"simple": pytest.approx(smoothed.simple.sum().item())}
    wanted = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert got.keys() == wanted.keys() == {name for name, _ in net.named_parameters()}
    for name, grad in wanted.items():
        torch.testing.assert_close(got[name], grad)
    # Then all of them, and the warm-ups begin.
    config = replace(config, dropout=DropoutConfig(rate=0.0))
    both, first = take_step(net, config, specs, step=10)
    assert len(both) == 2
    no_start = replace(config, loss=replace(config.loss, alignment_warmup_steps=0))
    _, plain = take_step(net, no_start, specs, step=0)
    for name, grad in plain.items():
        torch.testing.assert_close(first[name], grad)


def test_streaming_nets_learn_the_offline_lattice_some_frames_later() -> None:
    """With a student that emits the teacher's output later, the divergence is 0 and the losses are equal."""
    lag = 2
    net = make_exact_supernet()
    config = make_config(lattice="full", objective="distill_plus_rnnt")
    config = replace(config, loss=replace(config.loss, streaming_delay=lag))
    step = SandwichStep(net, config, build_policy(config.dropout, SPACE))
    assert step.tail_frames(10**6) == lag * net.config.subsampling_factor
    batch = append_silence(BATCH, step.tail_frames(10**6))
    offline = net.encode

    def encode(shared: SharedPass, spec: SubnetSpec, *rest: Any) -> Tensor:
        out = offline(shared, SPACE.max("offline"))
        return out if spec.mode == "offline" else out.roll(lag, dims=1).detach()

    with mock.patch.object(net, "encode", encode):
        specs = [SPACE.max("offline"), SPACE.max("streaming")]
        losses = step(batch, specs, step=10**6, generator=torch.Generator()).on_host()
    assert losses[1].parts["distill"] == pytest.approx(0.0, abs=1e-4)
    single = SearchSpace(num_layers=3, depths=(3,), widths={"ffn_dim": (8,)}, modes=("streaming",))
    alone = SandwichStep(make_exact_supernet(space=single), config, build_policy(config.dropout, single))
    assert alone.phases.lag == 0


def test_hidden_contexts_hide_their_share_and_keep_the_rest() -> None:
    net = make_exact_supernet()
    shared = net.share(BATCH)
    out = shared.predictor_out
    start = net.full.predict_step(net.full.predictor.start(len(BATCH)))
    torch.testing.assert_close(start, out[:, 0])
    whole = drop_label_contexts(shared, start, 1.0, torch.Generator()).predictor_out
    assert torch.equal(whole, start[:, None].expand_as(out))
    long = replace(shared, predictor_out=torch.randn(4, 500, 3))
    begin = long.predictor_out[:, 0]
    some = drop_label_contexts(long, begin, 0.3, torch.Generator().manual_seed(1)).predictor_out
    hidden = (some == long.predictor_out[:, :1]).all(-1)
    assert 0.25 < hidden.float().mean() < 0.35
    assert torch.equal(some[~hidden], long.predictor_out[~hidden])


def test_a_carried_context_holds_the_previous_or_random_labels() -> None:
    labels = torch.tensor([[5, 6, 7], [8, 0, 0], [0, 0, 0]])
    batch = replace(
        BATCH,
        feats=BATCH.feats[:1].expand(3, -1, -1),
        feat_lens=BATCH.feat_lens[:1].expand(3),
        labels=labels,
        label_lens=torch.tensor([3, 1, 0]),
        texts=("",) * 3,
        ids=("a", "b", "c"),
    )
    start = torch.tensor([[-1, 0]] * 3)
    seen = [set[tuple[int, ...]]() for _ in range(3)]
    for seed in range(40):
        context = carry_label_contexts(batch, start, 9, 1.0, torch.Generator().manual_seed(seed))
        for row, labels in enumerate(context.tolist()):
            seen[row].add(tuple(labels))
    for row, previous in enumerate([(-1, 0), (6, 7), (0, 8)]):
        assert previous in seen[row] and len(seen[row]) > 5  # the others are random
        assert all(3 <= label < 9 for labels in seen[row] - {previous} for label in labels)
    assert torch.equal(carry_label_contexts(batch, start, 9, 0.0, torch.Generator()), start)
    context = torch.tensor([[-1, 0], [6, 7], [0, 8]])
    predictor = make_exact_supernet().full.predictor
    together = predictor(torch.tensor([[5, 6, 7, 8]]))[:, 3:]
    torch.testing.assert_close(predictor(torch.tensor([[8]]), context[1:2]), together)


def test_with_hidden_and_carried_contexts_all_specs_of_a_step_run_and_learn() -> None:
    net = make_exact_supernet()
    config = make_config()
    config = replace(config, loss=replace(config.loss, label_context_dropout=0.5, label_context_carry=0.5))
    losses, grads = take_step(net, config, random_specs(2, seed=1))
    assert len(losses) > 1
    assert all(grad.isfinite().all() for grad in grads.values())


def test_the_loss_of_every_size_falls_on_a_toy_batch() -> None:
    torch.manual_seed(0)
    net = Supernet(MODEL, SPACE, VOCAB_SIZE)
    net.full.subsampling.mean.fill_(-7.0)
    net.full.subsampling.inv_std.fill_(1 / 3)
    config = make_config(warmup=10)
    optimizer = build_optimizer(OptimConfig(name="adamw", lr=5e-3), net.named_parameters(), is_ssm_parameter)
    run = SandwichStep(net, config, build_policy(config.dropout, SPACE))
    corners = [SPACE.max(), *SPACE.corners()]
    batch = replace(BATCH, feats=BATCH.feats.float())
    history = []
    for step in range(30):
        losses = run(batch, corners, step=step, generator=torch.Generator().manual_seed(step)).on_host()
        optimizer.step()
        optimizer.zero_grad()
        history.append([loss.rnnt or 0.0 for loss in losses])
    for first, last in zip(history[0], history[-1], strict=True):
        assert last < 0.6 * first


def test_bfloat16_changes_products_only(monkeypatch: pytest.MonkeyPatch) -> None:
    net, config = make_supernet(), make_config()
    specs = [net.space.max("offline"), net.space.min("streaming")]
    losses, exact = take_step(net, config, specs)

    seen: set[tuple[str, torch.dtype]] = set()
    for module, name in (("todm.nn.ssm_scan", "convolve"), ("todm.losses.native", "lattice_score")):
        kept = getattr(importlib.import_module(module), name)

        def spied(x: Tensor, *args: Any, name: str = name, kept: Any = kept, **kwargs: Any) -> Any:
            result = kept(x, *args, **kwargs)
            seen.add((name, (result if isinstance(result, Tensor) else result[0]).dtype))
            return result

        monkeypatch.setattr(f"{module}.{name}", spied)
    half_losses, half = take_step(net, replace(config, precision="bfloat16"), specs)

    assert seen == {("convolve", torch.float32), ("lattice_score", torch.float32)}
    assert {grad.dtype for grad in half.values()} == {torch.float32}
    assert half.keys() == exact.keys()
    one, other = (torch.cat([grads[name].flatten().double() for name in exact]) for grads in (exact, half))
    assert not torch.equal(one, other)
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.999
    for loss, half_loss in zip(losses, half_losses, strict=True):
        assert half_loss.rnnt == pytest.approx(loss.rnnt, rel=0.01)
