"""Score a finished run of a grid: accuracy of every size and training time, in ``result.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from todm.ablation.layout import GridRun
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.decode.wer import compute_wer
from todm.dropout.reweighted import count_ffn_weights
from todm.envinfo import collect_env
from todm.extract import extract
from todm.files import write_json
from todm.nn.transducer import Transducer
from todm.search.evaluate import SupernetEvaluator
from todm.space.spec import SubnetSpec


def write_scores(run_dir: Path) -> dict[str, Any]:
    """Decode the dev parts with every size of a run's ladder and write ``result.json``.

    Args:
        run_dir: run folder with an averaged supernet, data and metrics.

    Returns:
        the content: ``cost`` (training seconds without validation, steps), ``validations``, ``env``, and
        ``sizes``: for each name of the ladder parameters, feed-forward weights (non-zero, and all of the
        spec's full widths), WER, and errors and words of every utterance.
    """
    evaluator = SupernetEvaluator.load(run_dir, num_utterances=0, seed=0)
    files, space = GridRun(run_dir), evaluator.supernet.space
    by_spec = {spec: _score_size(evaluator, spec) for spec in dict.fromkeys(space.ladder().values())}
    result = {
        "cost": training_cost(files.metrics),
        "validations": read_validations(files.metrics),
        "env": collect_env(),
        "sizes": {name: by_spec[spec] for name, spec in space.ladder().items()},
    }
    write_json(files.result, result)
    return result


def _score_size(evaluator: SupernetEvaluator, spec: SubnetSpec) -> dict[str, Any]:
    net: Transducer = extract(evaluator.supernet, spec)
    chunks = make_streaming_view(net, evaluator.chunk_ms)
    scored = transcribe_batches(net, evaluator.batches, evaluator.tokenizer, chunks=chunks)
    total = compute_wer(scored, replications=1)
    nonzero, _ = count_ffn_weights(net.state_dict())
    return {
        "params": sum(parameter.numel() for parameter in net.parameters()),
        "ffn_nonzero": nonzero,
        # Full widths, before dead units are removed.
        "ffn_weights": 2 * net.config.d_model * sum(spec.width("ffn_dim")),
        "wer": total.wer,
        "ins": total.ins,
        "del": total.dels,
        "sub": total.subs,
        "utterances": {
            one.id: [compute_wer([one], replications=1).errors, len(one.ref)]
            for one in sorted(scored, key=lambda one: one.id)
        },
    }


def training_cost(metrics: Path) -> dict[str, float]:
    """Sum the seconds of the training steps and count them; steps repeated after a stop count once."""
    steps = [line for line in _records(metrics) if line["kind"] == "train"]
    return {
        "seconds": sum(line.get("seconds", 0.0) for line in steps),
        "steps": max((line["step"] for line in steps), default=0),
    }


def read_validations(metrics: Path) -> list[dict[str, Any]]:
    """Read every validation of a run: ``step``, ``seconds`` of training until then, ``wer`` by size.

    The seconds are those of whole log intervals: exact where ``train.valid_interval`` is a multiple of
    ``train.log_interval``.
    """
    results, seconds = [], 0.0
    for line in _records(metrics):  # in chronological order: a rollback repeats steps
        if line["kind"] == "train":
            seconds += line.get("seconds", 0.0)
        elif line["kind"] == "valid":
            results.append({"step": line["step"], "seconds": seconds, "wer": line["wer"]})
    return results


def _records(metrics: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
