"""Small random nets, specs and batches that many tests share."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from todm.config import Config, ModelConfig, SpaceConfig
from todm.data.batch import Batch
from todm.extract import extract
from todm.nn.supernet import Supernet
from todm.nn.transducer import Transducer
from todm.runtime.fbank import LOG_FLOOR
from todm.runtime.tokens import WORD_START
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

VOCAB_SIZE = 11

MODEL = ModelConfig(
    num_layers=3,
    d_model=16,
    num_heads=4,
    head_dim=4,
    state_dim=3,
    end_silence_frames=0,
    subsampling_channels=4,
    predictor_dim=8,
    joiner_dim=12,
)

SPACE = SearchSpace(
    num_layers=3, depths=(1, 2, 3), widths={"ffn_dim": (8, 16, 24)}, modes=("offline", "streaming")
)

SPACE_CONFIG = SpaceConfig(depths=SPACE.depths, widths=dict(SPACE.widths), modes=SPACE.modes)
"""`SPACE` as settings."""

CONFIG = Config(model=MODEL, space=SPACE_CONFIG)


def make_supernet(
    *, seed: int = 0, factor: Literal[4, 8] = 4, space: SearchSpace = SPACE, model: ModelConfig = MODEL
) -> Supernet:
    """A small supernet whose norms, feature statistics and biases are random as well, in eval mode."""
    torch.manual_seed(seed)
    net = Supernet(replace(model, subsampling_factor=factor), space, VOCAB_SIZE)
    randomise(net, seed)
    return net.eval()


@torch.no_grad()
def randomise(net: nn.Module, seed: int) -> None:
    """Give what is one or zero at the start (norms, biases, statistics) values of its own."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.uniform_(-0.5, 0.5, generator=generator)
    for name, buffer in net.named_buffers():
        if name.endswith("mean"):
            buffer.uniform_(-9.0, -5.0, generator=generator)
        elif name.endswith("inv_std"):
            buffer.uniform_(0.2, 0.4, generator=generator)


def random_specs(count: int, *, seed: int = 0, space: SearchSpace = SPACE) -> list[SubnetSpec]:
    """The corners and `count` random specs of `space`."""
    rng = random.Random(seed)
    return [space.max(), *space.corners(), *(space.sample(rng) for _ in range(count))]


def make_feats(num_frames: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    """(N, T, 80) of the range that log-mel features have."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, num_frames, 80, generator=generator) * 3.0 - 7.0


def make_noise(lengths: list[int], *, seed: int = 0) -> list[np.ndarray]:
    """Samples (S,) of noise whose colour changes ten times a second, so that a net's choices do."""
    rng = np.random.default_rng(seed)
    result = []
    for length in lengths:
        samples = 0.03 * rng.standard_normal(length)
        for start in range(0, length, 1600):
            piece = samples[start : start + 1600]
            samples[start : start + 1600] = np.convolve(piece, rng.standard_normal(8))[: len(piece)]
        result.append(samples.astype(np.float32))
    return result


def make_exact_supernet(
    *, seed: int = 0, factor: Literal[4, 8] = 4, space: SearchSpace = SPACE, model: ModelConfig = MODEL
) -> Supernet:
    """`make_supernet` in float64: identities hold to rounding on every processor; give it float64 batches."""
    return make_supernet(seed=seed, factor=factor, space=space, model=model).double()


def make_exact_batch(feat_lens: list[int], label_lens: list[int], *, seed: int = 0) -> Batch:
    """`make_batch` with float64 features."""
    batch = make_batch(feat_lens, label_lens, seed=seed)
    return replace(batch, feats=batch.feats.double())


def make_batch(feat_lens: list[int], label_lens: list[int], *, seed: int = 0) -> Batch:
    """Random utterances of these lengths, padded with silence."""
    generator = torch.Generator().manual_seed(seed)
    feats = torch.full((len(feat_lens), max(feat_lens), 80), LOG_FLOOR)
    labels = torch.zeros(len(label_lens), max(label_lens), dtype=torch.int64)
    for row, (num_frames, num_labels) in enumerate(zip(feat_lens, label_lens, strict=True)):
        feats[row, :num_frames] = torch.randn(num_frames, 80, generator=generator) * 3.0 - 7.0
        labels[row, :num_labels] = torch.randint(3, VOCAB_SIZE, (num_labels,), generator=generator)
    return Batch(
        feats=feats,
        feat_lens=torch.tensor(feat_lens),
        labels=labels,
        label_lens=torch.tensor(label_lens),
        texts=tuple("" for _ in feat_lens),
        ids=tuple(str(row) for row in range(len(feat_lens))),
    )


def write_lang(folder: Path) -> Path:
    """Language files for `VOCAB_SIZE` symbols: each piece one letter, every other one begins a word."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [f"{WORD_START if i % 2 else ''}{chr(ord('A') + i)}" for i in range(VOCAB_SIZE - 3)]
    symbols = ["<blk>", "<sos/eos>", "<unk>", *pieces]
    lines = [f"{symbol} {index}\n" for index, symbol in enumerate(symbols)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "bpe.vocab").write_text("".join(f"{piece}\t-1\n" for piece in pieces), encoding="utf-8")
    (folder / "bpe.model").write_bytes(b"not read by these tests")
    return folder


@torch.no_grad()
def make_talkative(
    spec: SubnetSpec, *, factor: Literal[4, 8] = 4, seed: int = 3, feats: Tensor | None = None
) -> Transducer:
    """A random net that chooses a symbol in many frames, blank in others and ``<unk>`` at times.

    Args:
        spec: its size.
        factor: of the subsampling.
        seed: of the weights.
        feats: (1, T, 80), the input on which the symbols' logits are made equally large.
    """
    net = extract(make_supernet(seed=seed, factor=factor), spec)
    feats = make_feats(600, seed=seed) if feats is None else feats
    encoder_out, _ = net.encode(feats, torch.tensor([feats.shape[1]]))
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.randint(0, VOCAB_SIZE, (encoder_out.shape[1], net.context_size), generator=generator)
    logits = net.join(encoder_out[0], net.predict_step(contexts))
    output, std = net.joiner.output, logits.std(0)
    output.weight.div_(std[:, None])
    output.bias.sub_(logits.mean(0)).div_(std)
    output.bias[0] += 0.5
    output.bias[1] -= 100.0  # <sos/eos>, which no training text contains
    return net
