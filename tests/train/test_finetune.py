"""Training one subnet on, alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.nets import SPACE, make_feats
from tests.prepared import CONFIG, finish_run, prepare_run
from todm.cli import main
from todm.config import ContrastiveConfig, DropoutConfig
from todm.config.check import check
from todm.dropout import POLICIES, build_policy
from todm.errors import UserError
from todm.extract import extract
from todm.layout import find_checkpoints
from todm.model_dir import load_subnet, load_supernet, save_subnet
from todm.search.evaluate import SupernetEvaluator
from todm.space.cost import count_params
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec
from todm.train.checkpoint import load_checkpoint
from todm.train.finetune import fine_tune, own_spec, tuning_config
from todm.train.loop import Trainer

UNEVEN = SubnetSpec(layers=(0, 2), widths={"ffn_dim": (24, 8)}, mode="streaming")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exp = finish_run(prepare_run(tmp_path_factory.mktemp("finished")))
    supernet, config = load_supernet(exp / "supernet")
    save_subnet(exp / "subnets" / "uneven", extract(supernet, UNEVEN), config, exp / "supernet")
    return exp


@pytest.fixture
def exp(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "exp"))


def test_starts_from_the_subnet_and_writes_another(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = {}
    original = Trainer.resume

    def resume(self: Trainer) -> None:
        begun.update({name: value.clone() for name, value in self.state.net.state_dict().items()})
        original(self)

    monkeypatch.setattr(Trainer, "resume", resume)
    before = {path: path.read_bytes() for path in (exp / "subnets" / "uneven").iterdir()}
    target = fine_tune(exp, "uneven")
    assert target == exp / "subnets" / "uneven-tuned"

    source, _ = load_subnet(exp / "subnets" / "uneven")
    supernet, _ = load_supernet(exp / "supernet")
    for name, value in source.state_dict().items():
        assert torch.equal(begun[f"full.{name}"], value), name
    assert torch.equal(begun["simple_am_proj.weight"], supernet.simple_am_proj.weight)
    assert all(path.read_bytes() == content for path, content in before.items())

    tuned, config = load_subnet(target)
    assert tuned.spec == SubnetSpec(layers=(0, 1), widths={"ffn_dim": (24, 8)}, mode="streaming")
    assert config.model.num_layers == 2
    params = sum(parameter.numel() for parameter in tuned.parameters())
    assert params == sum(parameter.numel() for parameter in source.parameters())
    assert params == count_params(config.model, tuned.spec, tuned.vocab_size)
    feats, lens = make_feats(90), torch.tensor([90])
    with torch.no_grad():
        difference = (tuned.encode(feats, lens)[0] - source.encode(feats, lens)[0]).abs().max()
    assert 1e-4 < float(difference) < 10.0

    run = exp / "fine-tune" / "uneven"
    records = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    curves = [record["subnets"] for record in records if "subnets" in record]
    assert curves and all(curve.keys() == {"max-streaming"} for curve in curves)
    assert not (run / "data").exists() and find_checkpoints(run / "checkpoints")
    assert not list((exp / "checkpoints").glob("*tune*"))


def test_its_loss_falls(exp: Path) -> None:
    fine_tune(
        exp, "max", ["--train.num_epochs", "8", "--train.optim.lr", "0.03", "--train.log_interval", "1"]
    )
    text = (exp / "fine-tune" / "max" / "train" / "metrics.jsonl").read_text().splitlines()
    losses = [record["subnets"]["max"] for record in map(json.loads, text) if "subnets" in record]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_goes_on_where_it_stopped_and_begins_anew_with_other_weights(exp: Path) -> None:
    fine_tune(exp, "min", ["--train.max_steps", "2"])
    checkpoints = exp / "fine-tune" / "min" / "checkpoints"
    assert [path.name for path in find_checkpoints(checkpoints)] == ["step-00000002.pt"]
    fine_tune(exp, "min", ["--train.max_steps", "3"])
    assert [path.name for path in find_checkpoints(checkpoints)] == ["step-00000003.pt", "step-00000002.pt"]
    old = load_checkpoint(checkpoints / "step-00000003.pt")

    # The supernet was trained further, and the subnet cut out again.
    net, config = load_subnet(exp / "subnets" / "min")
    with torch.no_grad():
        net.encoder_proj.weight.add_(0.1)
    save_subnet(exp / "subnets" / "min", net, config, exp / "supernet")
    fine_tune(exp, "min", ["--train.max_steps", "1"])
    assert [path.name for path in find_checkpoints(checkpoints)] == ["step-00000001.pt"]
    assert load_checkpoint(checkpoints / "step-00000001.pt")["origin"] != old["origin"]


def test_defaults_are_gentle() -> None:
    spec = own_spec(UNEVEN)
    staged = replace(CONFIG, train=replace(CONFIG.train, contrastive=ContrastiveConfig(steps=5)))
    config = tuning_config(staged, spec)
    assert config.train.contrastive.steps == 0  # a stage of a training from nothing
    assert config.train.num_epochs < 10 and config.train.optim.lr < CONFIG.train.optim.lr
    assert config.train.optim.ssm_lr < CONFIG.train.optim.ssm_lr
    assert config.train.dropout.rate == pytest.approx(0.1 * (24 + 8) / (24 * 3))
    assert config.space.widths["ffn_dim"] == (8, 24) and config.space.depths == (2,)
    assert config.data == CONFIG.data


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_the_net_keeps_the_dropout_that_it_had(policy: str, rate: float) -> None:
    dropout = DropoutConfig(policy=policy, rate=rate)
    model = replace(CONFIG.model, ffn_gate="tied" if policy == "standout" else "none")
    config = replace(CONFIG, model=model, train=replace(CONFIG.train, dropout=dropout))
    had = build_policy(dropout, SPACE).plan(UNEVEN).strengths()
    tuned = tuning_config(config, own_spec(UNEVEN))
    check(tuned)
    space = SearchSpace.of(own_spec(UNEVEN))
    has = build_policy(tuned.train.dropout, space).plan(space.max()).strengths()
    assert has.get("ssm_out", 0.0) == pytest.approx(had.get("ssm_out", 0.0))
    assert has.get("ffn_weights", 0.0) == pytest.approx(had.get("ffn_weights", 0.0))
    expected = {"constant": rate, "max_only": 0.0}.get(policy, rate * (24 + 8) / (24 * 3))
    assert tuned.train.dropout.rate == pytest.approx(expected)
    changed = tuned.train.dropout.reweighted.strength < dropout.reweighted.strength
    assert changed == (policy == "reweighted")


def test_the_command(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--exp-dir", str(exp), "--fine-tune", "mid", "--train.max_steps", "1"]) == 0
    output = capsys.readouterr().out
    assert "mid-tuned" in output and "% before, " in output
    compared = json.loads((exp / "fine-tune" / "mid" / "compare.json").read_text())
    supernet, _ = load_supernet(exp / "supernet")
    evaluator = SupernetEvaluator.load(exp, 0, seed=0)
    assert compared["dev-here"]["before"] == evaluator.wer(supernet.space.mid()).wer
    assert compared["dev-here"]["after"] >= 0
    assert (exp / "fine-tune" / "mid" / "train" / "train.log").is_file()
    # What comes out can be tuned in turn: the settings do not shrink further.
    assert main(["train", "--exp-dir", str(exp), "--fine-tune", "mid-tuned", "--train.max_steps", "1"]) == 0
    _, once = load_subnet(exp / "subnets" / "mid-tuned")
    _, twice = load_subnet(exp / "subnets" / "mid-tuned-tuned")
    assert once.train.optim == twice.train.optim
    assert main(["train", "--exp-dir", str(exp), "--fine-tune", "../min"]) == 2
    assert "no such subnet '../min'; choose one of" in capsys.readouterr().err


def test_bad_input(exp: Path) -> None:
    with pytest.raises(UserError, match="no such subnet 'huge'; choose one of max, max-streaming"):
        fine_tune(exp, "huge")
    with pytest.raises(UserError, match="leave these settings out"):
        fine_tune(exp, "min", ["--model.d_model", "32"])
    (exp / "data" / "lang" / "tokens.txt").write_text("<blk> 0\n")
    with pytest.raises(UserError, match="extract the subnet again"):
        fine_tune(exp, "min")
    (exp / "data" / "lang" / "tokens.txt").unlink()
    with pytest.raises(UserError, match="todm prepare"):
        fine_tune(exp, "min")


def test_own_spec_keeps_the_widths() -> None:
    assert own_spec(UNEVEN) == replace(UNEVEN, layers=(0, 1))
