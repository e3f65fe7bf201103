"""Compare a training step with that of icefall's zipformer-small (23.3 M parameters) on the same batch.

    PYTHONPATH=ICEFALL:K2 python recipes/librispeech/compare_step.py ICEFALL [--conf YAML] [--rounds 5]

ICEFALL is a checkout of github.com/k2-fsa/icefall; its packages, k2 among them, must be importable. Theirs is
``zipformer/train.py``'s own model with the flags that their RESULTS give for the small one, its simple and
pruned losses weighted as after the warm-up, forward and backward; ours is the largest net alone and the
sandwich step, offline. Both in float32, without optimiser.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from todm.config import load_config
from todm.errors import UserError
from todm.train.measurement import measure
from todm.train.step_benchmark import BatchShape, prepare_steps

RECIPE = "egs/librispeech/ASR/zipformer"
SMALL = (
    "--num-encoder-layers 2,2,2,2,2,2 --feedforward-dim 512,768,768,768,768,768 "
    "--encoder-dim 192,256,256,256,256,256 --encoder-unmasked-dim 192,192,192,192,192,192"
)
SETTLED = 10_000  # their batch count after all warm-ups


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("icefall", type=Path, help="checkout of icefall")
    conf = Path(__file__).parent / "conf" / "960h-24m.yaml"
    parser.add_argument("--conf", type=Path, default=conf, help="ours (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each; medians count (5)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (2)")
    args = parser.parse_args()
    device, shape = torch.device("cpu"), BatchShape()
    config = load_config(args.conf)
    config = replace(config, space=replace(config.space, modes=("offline",)))
    net, works = prepare_steps(config, shape, device)
    del works["apart"]
    works["zipformer-small"], size = load_theirs(args.icefall, shape)
    torch.set_num_threads(args.threads)  # importing theirs sets one
    costs = measure(works, device, args.rounds)
    ours = sum(parameter.numel() for parameter in net.full.parameters())
    print(
        f"{shape.utterances} utterances of {shape.frames} frames, {args.threads} threads; "
        f"{ours / 1e6:.1f} M parameters, theirs {size / 1e6:.1f} M; medians of {args.rounds}"
    )
    theirs = costs["zipformer-small"].median
    for name, cost in costs.items():
        print(f"{name:<16} {cost.median:6.2f} s  {cost.median / theirs:5.2f} of theirs")


def load_theirs(icefall: Path, shape: BatchShape) -> tuple[Callable[[], None], int]:
    """A step of zipformer-small, and how many parameters it has."""
    if not (icefall / RECIPE / "train.py").is_file():
        raise UserError(f"{icefall}: holds no {RECIPE}/train.py; give a checkout of icefall")
    sys.path[:0] = [str(icefall), str(icefall / RECIPE)]
    try:
        import k2
        import train  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(
            f"{icefall}: cannot be imported ({error}); install what it needs, k2 first"
        ) from error
    params = train.get_params()
    params.update(vars(train.get_parser().parse_args(SMALL.split())))
    params.update({"vocab_size": shape.vocab_size, "blank_id": 0})
    torch.manual_seed(0)
    model = train.get_model(params).train()
    for module in model.modules():
        if hasattr(module, "batch_count"):  # what their schedules read
            module.batch_count = SETTLED
    batch = shape.draw(torch.device("cpu"))
    labels = k2.RaggedTensor(batch.labels.tolist())

    def step() -> None:
        model.zero_grad(set_to_none=True)
        simple, pruned, *_ = model(
            batch.feats, batch.feat_lens, labels, prune_range=5, am_scale=0.0, lm_scale=0.25
        )
        (0.5 * simple + pruned).backward()

    return step, sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"compare_step.py: {error}", file=sys.stderr)
        sys.exit(2)
