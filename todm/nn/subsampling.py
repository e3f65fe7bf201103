"""Convolutional subsampling, 4x or 8x in time, with a look-ahead of 2^n - 1 frames.

Shapes: N batch, T feature frames (10 ms), T' encoder frames, F mel bins, C convolution channels,
D encoder width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from todm.nn.norm import make_norm
from todm.space.lengths import subsample_length


class Conv2dSubsampling(nn.Module):
    """n stride-2 convolutions over time and frequency (n = 2 for 4x, 3 for 8x), a projection to D, a norm.

    No padding: encoder frame t sees exactly the feature frames 2^n t to 2^n t + 2^(n+1) - 2. A streaming
    caller therefore overlaps its chunks by `overlap` frames and gets the full pass bit for bit, without any
    convolution state.

    Args:
        num_mel_bins: F.
        channels: C of every convolution.
        d_model: D.
        factor: 4 or 8.
    """

    mean: Tensor
    inv_std: Tensor

    def __init__(self, num_mel_bins: int, channels: int, d_model: int, factor: int) -> None:
        super().__init__()
        assert factor in (4, 8)
        num_convs = factor.bit_length() - 1
        self.factor = factor
        self.register_buffer("mean", torch.zeros(num_mel_bins))
        self.register_buffer("inv_std", torch.ones(num_mel_bins))
        self.convs = nn.ModuleList(
            nn.Conv2d(1 if i == 0 else channels, channels, kernel_size=3, stride=2) for i in range(num_convs)
        )
        bins = subsample_length(num_mel_bins, factor)
        self.proj = nn.Linear(channels * bins, d_model)
        # Without the norm the residual stream starts a tenth as large as the output of the first branches.
        self.norm = make_norm(d_model)

    @property
    def overlap(self) -> int:
        """Feature frames that consecutive chunks share: 3 for 4x, 7 for 8x."""
        return self.factor - 1

    def forward(self, feats: Tensor) -> Tensor:
        """(N, T, F) float32 log-mel to (N, T', D); T must be at least 2^(n+1) - 1."""
        x = ((feats - self.mean) * self.inv_std)[:, None]
        for conv in self.convs:
            x = nn.functional.silu(_convolve(conv, x))
        return self.norm(self.proj(x.permute(0, 2, 1, 3).flatten(2)))


def _convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """A stride-2 convolution, (N, C, T, F) to the same, with channels last in memory: faster on a CPU."""
    weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
    last = torch.channels_last
    return nn.functional.conv2d(x.to(memory_format=last), weight.to(memory_format=last), bias, stride=2)


def subsampled_lens(lens: Tensor, factor: int) -> Tensor:
    """Encoder frames of `lens` feature frames (int64, any shape): `subsample_length` of a tensor."""
    for _ in range(factor.bit_length() - 1):
        lens = torch.div(lens - 1, 2, rounding_mode="floor").clamp(min=0)
    return lens
