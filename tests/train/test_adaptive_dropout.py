"""Dropout that changes over the run, zeros in validation, and the contrastive stage, in real short runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.nets import MODEL, SPACE, make_batch, make_supernet
from tests.train.runs import BATCHES_PER_EPOCH, NewRun, assert_identical, newest, records, settings
from todm.config import (
    Config,
    ContrastiveConfig,
    DropoutConfig,
    DropoutScheduleConfig,
    LossConfig,
    ReweightedConfig,
    TrainConfig,
)
from todm.dropout import POLICIES, build_policy
from todm.nn.dropout import DropoutPlan
from todm.space.spec import SubnetSpec
from todm.train.loop import train
from todm.train.step import SandwichStep
from todm.train.step_losses import PassLoss


def dropping(schedule: str, **changes: Any) -> Config:
    dropout = DropoutConfig(policy="constant", rate=0.2, schedule=DropoutScheduleConfig(name=schedule))
    return settings(dropout=replace(dropout, **changes))


def test_schedules_are_written_down(new_run: NewRun) -> None:
    exp = new_run("linear")
    train(dropping("linear"), exp)
    total = 2 * BATCHES_PER_EPOCH
    lines = [record for record in records(exp) if record["kind"] == "train"]
    assert len(lines) > 2
    for line in lines:
        left = 1 - line["step"] / total
        assert line["dropout"]["factor"] == pytest.approx(left)
        assert line["dropout"].get("ffn_out", 0.0) == pytest.approx(0.2 * left)
        assert line["seconds"] > 0
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(exp / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("dropout/factor")] == [line["step"] for line in lines]
    assert events.Scalars("dropout/ffn_out")[0].value == pytest.approx(lines[0]["dropout"]["ffn_out"])


@pytest.mark.parametrize(
    "config",
    [
        dropping("validation", policy="reweighted", reweighted=ReweightedConfig(strength=1e-3)),
        dropping("curriculum", policy="mixed"),
    ],
    ids=["validation", "curriculum"],
)
def test_resuming_goes_on_exactly(config: Config, new_run: NewRun) -> None:
    config = replace(config, train=replace(config.train, valid_interval=3))
    straight, broken = new_run("straight"), new_run("broken")
    train(config, straight)
    # Stopped after 5 batches: of the same length otherwise, or the schedule would be another one.
    for path in (straight / "checkpoints").glob("step-*.pt"):
        if int(path.stem[5:]) <= 5:
            (broken / "checkpoints").mkdir(exist_ok=True)
            (broken / "checkpoints" / path.name).write_bytes(path.read_bytes())
    assert newest(broken)["step"] == 5
    train(config, broken)
    for part in ("model", "optimizer", "dropout", "step"):
        assert_identical(newest(broken)[part], newest(straight)[part], part)
    if config.train.dropout.schedule.name == "validation":
        losses = [record["loss"] for record in records(straight) if record["kind"] == "dev_loss"]
        assert len(losses) == 5 and all(0 < loss < 100 for loss in losses)  # steps 3, 5, 6, 9 and 10
        assert newest(straight)["dropout"]["best"] == pytest.approx(min(losses))
        assert newest(straight)["dropout"]["value"] != 1.0


class Probe:
    """A policy that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[SubnetSpec, float]] = []

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        self.asked.append((spec, progress))
        return build_policy(DropoutConfig(policy="constant", rate=0.2), SPACE).plan(spec)


CONTRASTIVE = TrainConfig(
    loss=LossConfig(prune_range=3, warmup_steps=0, alignment_warmup_steps=2),
    dropout=DropoutConfig(policy="constant", rate=0.2),
    contrastive=ContrastiveConfig(steps=3),
)
BATCH = make_batch([70, 52, 60], [5, 3, 2])


def run_step(config: TrainConfig, step: int) -> tuple[list[PassLoss], dict[str, torch.Tensor], Probe]:
    net, probe = make_supernet(), Probe()
    stepper = SandwichStep(net, config, probe, total_steps=20)
    losses = stepper(BATCH, [SPACE.max(), SPACE.min()], step=step, generator=torch.Generator().manual_seed(0))
    return losses.on_host(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}, probe


def test_the_stages_follow_each_other() -> None:
    for step in (0, 2):
        losses, grads, probe = run_step(CONTRASTIVE, step)
        assert [loss.spec for loss in losses] == [SPACE.max("offline"), SPACE.max("streaming")]
        assert all(loss.rnnt is None and loss.parts["contrastive"] > 0 for loss in losses)
        # Two passes each, before any schedule moves; the encoder learns, what needs labels does not.
        assert [progress for _, progress in probe.asked] == [0.0] * 4
        assert bool(grads["full.encoder_proj.weight"].any())
        assert bool(grads["full.subsampling.convs.0.weight"].any())
        assert not any(name.startswith(("full.joiner", "full.predictor", "simple")) for name in grads)
    losses, _, probe = run_step(CONTRASTIVE, 3)  # the diagonal start, which has no dropout
    assert all(loss.rnnt is not None for loss in losses) and not probe.asked
    for step, progress in ((5, 0.0), (8, 0.2), (20, 1.0)):  # of the 15 steps after those five
        losses, _, probe = run_step(CONTRASTIVE, step)
        assert [loss.spec for loss in losses] == [SPACE.max(), SPACE.min()]
        assert "contrastive" not in losses[0].parts
        assert [asked for _, asked in probe.asked] == [pytest.approx(progress)] * 2


def test_the_consistency_term_joins_the_max_net_s_loss() -> None:
    plain = replace(CONTRASTIVE, contrastive=ContrastiveConfig())
    with_term = replace(CONTRASTIVE, contrastive=ContrastiveConfig(weight=0.5))
    losses, grads, _ = run_step(with_term, 10)
    without, plain_grads, _ = run_step(plain, 10)
    assert losses[0].rnnt == pytest.approx(without[0].rnnt)
    assert losses[0].parts["contrastive"] > 0 and "contrastive" not in losses[1].parts
    name = "full.encoder_proj.weight"
    assert not torch.allclose(grads[name], plain_grads[name])


def test_a_run_with_a_contrastive_stage(new_run: NewRun) -> None:
    exp = new_run("contrastive")
    train(settings(num_epochs=1, contrastive=ContrastiveConfig(steps=2, weight=0.1)), exp)
    lines = [record for record in records(exp) if record["kind"] == "train"]
    assert lines[0]["subnets"] == {} and lines[0]["losses"]["contrastive"] > 0
    assert lines[-1]["subnets"] and lines[-1]["losses"]["contrastive"] > 0


def test_the_dev_loss_is_the_max_net_s_without_dropout() -> None:
    net = make_supernet()
    config = replace(CONTRASTIVE, contrastive=ContrastiveConfig())
    quiet = replace(
        config, dropout=DropoutConfig(rate=0.0), loss=replace(config.loss, alignment_warmup_steps=0)
    )
    step = SandwichStep(net, quiet, build_policy(quiet.dropout, SPACE))
    losses = step(BATCH, [SPACE.max()], step=0, generator=torch.Generator().manual_seed(0)).on_host()
    loud = SandwichStep(net, config, build_policy(config.dropout, SPACE))
    assert loud.evaluate(BATCH, SPACE.max()) == pytest.approx(losses[0].rnnt, rel=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_through_the_shared_pass_are_those_of_a_plain_one(policy: str) -> None:
    net = make_supernet(model=replace(MODEL, ffn_gate="learned"))
    spec = SPACE.mid("streaming")
    plan = build_policy(DropoutConfig(policy=policy, rate=0.3), SPACE).plan(spec)

    def gradients(detached: bool) -> dict[str, torch.Tensor]:
        net.zero_grad(set_to_none=True)
        whole = net.share(BATCH)
        shared, pairs = whole.detached() if detached else (whole, [])
        net.encode(shared, spec, plan, torch.Generator().manual_seed(5)).square().sum().backward()
        flowing = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
        torch.autograd.backward([tensor for tensor, _ in flowing], [grad for _, grad in flowing])
        return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}

    plain = {name: grad.clone() for name, grad in gradients(detached=False).items()}
    shared = gradients(detached=True)
    assert any(name.endswith("ffn.gate_scale") for name in plain)
    for name, grad in plain.items():
        torch.testing.assert_close(shared[name], grad, msg=name, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_bfloat16_takes_any_policy_and_two_views(policy: str) -> None:
    config = replace(
        CONTRASTIVE,
        dropout=DropoutConfig(policy=policy, rate=0.1),
        contrastive=ContrastiveConfig(steps=1, weight=0.5),
        loss=replace(CONTRASTIVE.loss, alignment_warmup_steps=0),
    )
    losses: dict[tuple[int, SubnetSpec], list[float]] = {}
    for precision in ("float32", "bfloat16"):
        net = make_supernet(model=replace(MODEL, ffn_gate="tied"))
        settings = replace(config, precision=precision)
        run = SandwichStep(net, settings, build_policy(config.dropout, SPACE), total_steps=10)
        for step in (0, 1):
            for loss in run(BATCH, [SPACE.max(), SPACE.min()], step=step, generator=seeded(step)).on_host():
                losses.setdefault((step, loss.spec), []).append(loss.parts.get("contrastive", 0.0))
                losses[step, loss.spec].append(loss.rnnt or 0.0)
    for one_contrastive, one, other_contrastive, other in losses.values():
        assert other == pytest.approx(one, rel=0.05)
        assert other_contrastive == pytest.approx(one_contrastive, rel=0.1, abs=0.1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
