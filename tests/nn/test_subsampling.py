from __future__ import annotations

import pytest
import torch

from tests.nets import make_feats
from todm.nn.subsampling import Conv2dSubsampling, subsampled_lens


@pytest.mark.parametrize("factor", [4, 8])
@torch.no_grad()
def test_lengths_are_those_of_the_convolutions(factor: int) -> None:
    torch.manual_seed(0)
    front = Conv2dSubsampling(80, 2, 5, factor)
    shortest = 2 * factor - 1
    for num_frames in range(shortest, 8 * factor):
        lens = subsampled_lens(torch.tensor([num_frames]), factor)
        assert front(make_feats(num_frames)).shape == (1, int(lens), 5)
        # Every `factor` frames of input, beyond the overlap, give one frame.
        assert int(lens) == (num_frames - front.overlap) // factor
    short = subsampled_lens(torch.arange(shortest), factor)
    assert short.tolist() == [0] * shortest
    assert short.dtype == torch.int64


@pytest.mark.parametrize("factor", [4, 8])
@torch.no_grad()
def test_receptive_field_of_a_frame(factor: int) -> None:
    torch.manual_seed(0)
    front = Conv2dSubsampling(80, 2, 5, factor)
    feats = make_feats(10 * factor)
    whole = front(feats)
    for t in (0, 1, 4):
        first, last = factor * t, factor * t + 2 * factor - 2
        for frame in range(feats.shape[1]):
            changed = feats.clone()
            changed[:, frame] += 5.0
            same = torch.equal(front(changed)[:, t], whole[:, t])
            assert same != (first <= frame <= last), (t, frame)


@pytest.mark.parametrize("factor", [4, 8])
@torch.no_grad()
def test_overlapping_chunks_give_the_full_pass(factor: int) -> None:
    torch.manual_seed(0)
    front = Conv2dSubsampling(80, 2, 5, factor)
    feats = make_feats(13 * factor + 5)
    whole = front(feats)
    for frames in (1, 2, 5):
        parts = []
        for start in range(0, whole.shape[1] - frames + 1, frames):
            window = feats[:, start * factor : (start + frames) * factor + front.overlap]
            parts.append(front(window))
        joined = torch.cat(parts, dim=1)
        torch.testing.assert_close(joined, whole[:, : joined.shape[1]])


@torch.no_grad()
def test_features_are_normalised() -> None:
    torch.manual_seed(0)
    front = Conv2dSubsampling(80, 2, 5, 4)
    feats = make_feats(20)
    plain = front((feats + 7.0) * 0.25)
    front.mean.fill_(-7.0)
    front.inv_std.fill_(0.25)
    torch.testing.assert_close(front(feats), plain)
    assert "mean" in front.state_dict() and "inv_std" in front.state_dict()
