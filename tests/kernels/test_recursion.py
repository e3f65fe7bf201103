"""The lattice's recursions in one kernel against the plain ones, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import DEVICE, kernels
from todm.kernels import recursion as recursion_kernels
from todm.losses.band import full_band
from todm.losses.recursion import forward_backward, lattice_score


def make_lattice(
    num_frames: int, encoder_lens: list[int], label_lens: list[int], scale: float
) -> tuple[Tensor, ...]:
    """Blanks and labels as `forward_backward` takes them, the lengths, and which nodes there are."""
    generator = torch.Generator().manual_seed(0)
    frames, lens = torch.tensor(encoder_lens), torch.tensor(label_lens)
    shape = (len(encoder_lens), max(label_lens) + 1, num_frames)
    node = torch.arange(num_frames) < frames[:, None, None]
    node = node & (torch.arange(shape[1])[:, None] <= lens[:, None, None])
    move = torch.nn.functional.pad(node[:, :-1] & node[:, 1:], (0, 0, 0, 1))
    blanks, labels = (-scale * torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return (
        blanks.masked_fill(~node, 0.0).to(DEVICE),
        labels.masked_fill(~move, -torch.inf).to(DEVICE),
        frames.to(DEVICE),
        lens.to(DEVICE),
        node.to(DEVICE),
    )


# A scale of 2,000: neighbouring paths differ by more than float64's whole range.
@pytest.mark.parametrize("scale", [1e-3, 3.0, 2e3])
@pytest.mark.parametrize(
    ("num_frames", "encoder_lens", "label_lens"),
    [(13, [13, 9, 4], [5, 0, 3]), (16, [16], [1]), (1, [1, 1], [2, 0]), (5, [3, 5], [0, 0])],
)
def test_against_the_plain_recursions(
    num_frames: int, encoder_lens: list[int], label_lens: list[int], scale: float
) -> None:
    blanks, labels, frames, lens, node = make_lattice(num_frames, encoder_lens, label_lens, scale)
    labels[0, :, 0] = -torch.inf  # a move that is impossible
    found = recursion_kernels.forward_backward(blanks, labels, frames, lens)
    for one, other in zip(found, forward_backward(blanks, labels, frames, lens), strict=True):
        assert not one.isnan().any()
        torch.testing.assert_close(one[node], other[node], rtol=1e-12, atol=1e-12)


def test_score_and_gradient_take_the_kernel() -> None:
    torch.manual_seed(0)
    lens = {"encoder_lens": torch.tensor([9, 6]).to(DEVICE), "label_lens": torch.tensor([2, 3]).to(DEVICE)}
    band = full_band(2, 9, 3, DEVICE)
    blank, label = (torch.randn(2, 9, 4).log_softmax(-1).to(DEVICE).requires_grad_() for _ in range(2))
    plain, *_ = lattice_score(
        blank.cpu(),
        label.cpu(),
        band=full_band(2, 9, 3, torch.device("cpu")),
        num_labels=3,
        **{name: value.cpu() for name, value in lens.items()},
    )
    expected = torch.autograd.grad(plain.sum(), [blank, label])
    with kernels():
        score, *_ = lattice_score(blank, label, band=band, num_labels=3, **lens)
    torch.testing.assert_close(score.cpu(), plain)
    for one, other in zip(torch.autograd.grad(score.sum(), [blank, label]), expected, strict=True):
        torch.testing.assert_close(one, other)
