"""Fine-tuning of one subnet: training in a space of a single spec, starting from the subnet's weights.

The run lives in ``EXP/fine-tune/<name>`` and reads the data of ``EXP``; its averaged net becomes the subnet
``EXP/subnets/<name>-tuned``, whose spec counts its own layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from todm.config import Config, DropoutConfig, SpaceConfig, config_from_dict, load_config
from todm.config.check import check
from todm.data.loader import load_cuts, make_eval_loader
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.decode.wer import compute_wer
from todm.dropout import build_policy
from todm.errors import UserError
from todm.files import write_json
from todm.layout import LangFolder, ModelFolder, RunFolder
from todm.model_dir import load_subnet, load_supernet, save_subnet
from todm.nn.transducer import Transducer
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec
from todm.train.average import finished_weights
from todm.train.loop import WarmStart, train
from todm.train.phases import skip_to_sandwich
from todm.train.sync import World

EPOCHS = 3
LR_SHARE = 0.2
"""Learning rates relative to the run's: the net is near a minimum and must not leave it."""


def fine_tune(exp_dir: Path, name: str, overrides: Sequence[str] = (), *, conf: Path | None = None) -> Path:
    """Fine-tune the subnet ``EXP/subnets/<name>`` and write ``EXP/subnets/<name>-tuned``.

    Args:
        exp_dir: run folder with ``data``, ``supernet`` and ``subnets``.
        name: folder of the subnet.
        overrides: dotted settings on top of `tuning_config`'s.
        conf: settings in place of the run's ``config.yaml``.

    Returns:
        The new subnet's folder.

    Raises:
        UserError: no such subnet, a tokenizer other than that of the data, settings that would change the
            net, or what training itself raises.
    """
    run, tuning = RunFolder(exp_dir), RunFolder(exp_dir).tuning(name)
    source, target = find_subnet(exp_dir, name), run.subnet(f"{name}-tuned")
    tokens = LangFolder(run.lang).tokens
    if not tokens.is_file():
        raise UserError(f"{tokens}: missing; run 'todm prepare' first")
    if tokens.read_bytes() != ModelFolder(source).tokens.read_bytes():
        raise UserError(f"{source}: its {tokens.name} is not that of {run.lang}; extract the subnet again")

    net, _ = load_subnet(source)
    spec = own_spec(net.spec)
    base = load_config(conf or run.config, saved=conf is None)
    check(base)
    defaults = tuning_config(base, spec)
    config = config_from_dict(defaults.to_dict(), str(tuning.config), overrides)
    if (config.model, config.space) != (defaults.model, defaults.space):
        raise UserError("model, space: fine-tuning keeps the subnet as it is; leave these settings out")
    start = WarmStart(
        space=SearchSpace.of(spec),
        weights=_starting_weights(net, run.supernet),
        data_dir=run.data,
        origin=hashlib.sha256(
            ModelFolder(source).weights.read_bytes() + net.spec.to_json().encode()
        ).hexdigest(),
    )
    train(config, tuning.path, start)
    if World.from_env().is_main:
        tuned = Transducer(config.model, spec, net.vocab_size)
        weights = finished_weights(tuning.path, config.train.dropout)
        tuned.load_state_dict({key: weights[f"full.{key}"] for key in tuned.state_dict()})
        save_subnet(target, tuned, config, run.lang)
    return target


def compare_tuned(exp_dir: Path, name: str) -> dict[str, dict[str, float]]:
    """Word error rates on the run's dev parts, percent, before and after: by part, ``before`` and ``after``.

    Greedy search in torch; also written to ``EXP/fine-tune/<name>/compare.json``.
    """
    run = RunFolder(exp_dir)
    found: dict[str, dict[str, float]] = {}
    for when, folder in (("before", name), ("after", f"{name}-tuned")):
        net, config = load_subnet(run.subnet(folder))
        tokenizer = Tokenizer.load(run.subnet(folder))
        chunks = make_streaming_view(net, config.export.chunk_ms)
        for part in config.data.dev_parts:
            batches = make_eval_loader(load_cuts(run.data, part), tokenizer)
            scored = transcribe_batches(net, batches, tokenizer, chunks=chunks)
            found.setdefault(part, {})[when] = compute_wer(scored, replications=1).wer
    write_json(run.tuning(name).tuning_comparison, found)
    return found


def find_subnet(exp_dir: Path, name: str) -> Path:
    """Folder of the subnet `name`; `UserError` with those that there are when it is none of them."""
    known = [path.name for path in RunFolder(exp_dir).find_subnets()]
    if name not in known:
        choice = f"choose one of {', '.join(known)}" if known else "run 'todm extract' first"
        raise UserError(f"{RunFolder(exp_dir).subnets}: no such subnet {name!r}; {choice}")
    return RunFolder(exp_dir).subnet(name)


def own_spec(spec: SubnetSpec) -> SubnetSpec:
    """Renumber the layers of a net from 0, as the full network of its own supernet.

    Example:
        >>> own_spec(SubnetSpec(layers=(0, 2, 5), widths={"ffn_dim": (8, 16, 8)}, mode="offline")).layers
        (0, 1, 2)
    """
    return replace(spec, layers=tuple(range(spec.depth)))


def keep_strengths(config: Config, spec: SubnetSpec) -> DropoutConfig:
    """Change a run's dropout to the strengths that its policy gave the net in the supernet.

    The net is the largest one of the fine-tuning, so the settings are those of full width: the rate is that
    of the SSM branch, which has no width of its own, and lambda of ``reweighted`` the mean over the layers.
    """
    dropout = config.train.dropout
    strengths = build_policy(dropout, SearchSpace.from_config(config)).policy.plan(spec).strengths()
    reweighted = dropout.reweighted
    if "ffn_weights" in strengths:
        reweighted = replace(reweighted, strength=strengths["ffn_weights"])
    return replace(dropout, rate=strengths.get("ssm_out", 0.0), reweighted=reweighted)


def tuning_config(config: Config, spec: SubnetSpec) -> Config:
    """Change a run's settings for fine-tuning: few epochs, low learning rates, no warm-up of the loss.

    Args:
        config: settings of the run.
        spec: result of `own_spec`.
    """
    optim = replace(
        config.train.optim,
        lr=LR_SHARE * config.train.optim.lr,
        ssm_lr=LR_SHARE * config.train.optim.ssm_lr,
        schedule="eden",
        lr_epochs=1.0,
        warmup_steps=min(config.train.optim.warmup_steps, 20),
    )
    training = replace(
        skip_to_sandwich(config.train),
        num_epochs=EPOCHS,
        max_steps=0,
        average_from=0.5,
        average_period=min(config.train.average_period, 5),
        resume="auto",
        dropout=keep_strengths(config, spec),
        optim=optim,
    )
    return replace(
        config,
        augment=replace(config.augment, warmup_steps=0),
        model=replace(config.model, num_layers=spec.depth),
        space=SpaceConfig(
            depths=(spec.depth,),
            widths={name: tuple(sorted(set(values))) for name, values in spec.widths.items()},
            modes=(spec.mode,),
        ),
        train=training,
    )


def _starting_weights(net: Transducer, supernet_dir: Path) -> dict[str, Tensor]:
    """Join the subnet's weights with the supernet's layers that are used in training only."""
    supernet, _ = load_supernet(supernet_dir)
    weights = {key: value for key, value in supernet.state_dict().items() if not key.startswith("full.")}
    return weights | {f"full.{key}": value for key, value in net.state_dict().items()}
