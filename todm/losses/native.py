"""The pruned transducer loss in plain PyTorch: the default backend.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary, J joiner dim.
Memory: N T S V numbers for the joiner, N T (U + 1) for the lattices, never N T U V.

With a path power tau above 1 the loss of the band is not -log P, P the sum over all paths, but

    L = -(1 / tau) log sum over paths of p(path)^tau = -log P + (1 - 1 / tau) H,

H the Renyi entropy of order tau of the paths given the labels. Plain likelihood is the same if a label's
probability is spread over several frames with less than half of it in each; greedy search then never emits
the label.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from todm.kernels import gpu
from todm.losses.band import Band, choose_band, full_band
from todm.losses.interface import Join, TransducerInputs, TransducerLoss, TransducerLossOptions
from todm.losses.recursion import lattice_score
from todm.losses.smoothed import smoothed_log_probs
from todm.nn.precision import at_least_float32

# Slices of a batch. Each costs some calls; with more slices the lattice would be the peak of memory instead.
_NUM_BLOCKS = 4


def compute(inputs: TransducerInputs, options: TransducerLossOptions) -> TransducerLoss:
    """Compute the loss with `lattice_score`, first on the smoothed lattice, then on the band."""
    simple, band = simple_loss(inputs, options)
    log_probs, blank, label = pick_on_band(inputs, band, keep=options.with_log_probs)
    with torch.autocast(blank.device.type, enabled=False):
        score, _, _ = lattice_score(
            options.path_power * blank,
            options.path_power * label,
            band=band,
            num_labels=inputs.num_labels,
            encoder_lens=inputs.encoder_lens,
            label_lens=inputs.label_lens,
        )
    pruned = -score / options.path_power

    def kept() -> Tensor:
        assert log_probs is not None, "log_probs were not asked for: with_log_probs"
        return log_probs

    return TransducerLoss(simple=simple, pruned=pruned, band=band, normalise=kept)


def simple_loss(inputs: TransducerInputs, options: TransducerLossOptions) -> tuple[Tensor, Band]:
    """Compute the smoothed loss (N,) and the band: the one given, or else the one chosen by its occupations.

    Without ``am`` and ``lm`` the loss is zero and the band is the full lattice.
    """
    num_utterances, num_labels = inputs.num_utterances, inputs.num_labels
    everything = full_band(num_utterances, inputs.num_frames, num_labels, inputs.encoder_out.device)
    if inputs.am is None or inputs.lm is None:
        zeros = at_least_float32(inputs.encoder_out.new_zeros(num_utterances))
        return zeros, inputs.band or everything
    with torch.autocast(inputs.am.device.type, enabled=False):
        blank, label = smoothed_log_probs(
            at_least_float32(inputs.am),
            at_least_float32(inputs.lm),
            inputs.next_labels(),
            inputs.label_lens,
            lm_scale=options.lm_scale,
            am_scale=options.am_scale,
        )
        score, blank_occupation, label_occupation = lattice_score(
            blank,
            label,
            band=everything,
            num_labels=num_labels,
            encoder_lens=inputs.encoder_lens,
            label_lens=inputs.label_lens,
        )
    if inputs.band is not None:
        return -score, inputs.band
    size = inputs.choose_band_size(options.prune_range)
    band = choose_band(blank_occupation, label_occupation, inputs.encoder_lens, inputs.label_lens, size)
    return -score, band


def pick_on_band(inputs: TransducerInputs, band: Band, *, keep: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    """Compute the joiner's log-probabilities on the band and pick the blank and the next label from them.

    If they are not kept the joiner runs on slices of the batch, one after the other: temporary tensors (its
    gathered input and the gradient of its hidden layer) never exist for the whole batch.

    Args:
        inputs: tensors of the pass.
        band: nodes to run on.
        keep: whether the log-probabilities themselves are returned.

    Returns:
        log_probs (N, T, S, V) or None, blank (N, T, S), label (N, T, S); float32 at least.
    """
    num_utterances, num_frames = band.begin.shape
    device = band.begin.device.type
    positions = band.indices()
    next_labels = inputs.next_labels()[:, None].expand(-1, num_frames, -1).gather(2, positions)
    size = num_utterances if keep else -(-num_utterances // _NUM_BLOCKS)
    # `split` instead of slicing: a slice's gradient is as large as the whole tensor.
    parts = (inputs.encoder_out, inputs.predictor_out, positions, next_labels)
    blocks = []
    for encoder_out, predictor_out, nodes, following in zip(*(x.split(size) for x in parts), strict=True):
        # Blocks that shared the weights that autocast casts would sum their gradients in half precision.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
            logits = join_on_band(inputs.join, encoder_out, predictor_out, nodes)
        with torch.autocast(device, enabled=False):
            blocks.append(pick_log_probs(logits, following, keep=keep))
    if keep:
        return blocks[0]
    _, blanks, labels = zip(*blocks, strict=True)
    return None, torch.cat(blanks), torch.cat(labels)


def join_on_band(join: Join, encoder_out: Tensor, predictor_out: Tensor, positions: Tensor) -> Tensor:
    """Compute the joiner's logits at the band's nodes.

    Args:
        join: see `todm.losses.rnnt.rnnt_loss`.
        encoder_out: (N, T, J).
        predictor_out: (N, U + 1, J).
        positions: (N, T, S) int64, of `Band.indices`.

    Returns:
        (N, T, S, V).
    """
    num_utterances, num_positions, joiner_dim = predictor_out.shape
    offset = num_positions * torch.arange(num_utterances, device=positions.device)
    # An embedding look-up: of all gathers its backward pass is the fastest here.
    rows = torch.nn.functional.embedding(
        positions + offset[:, None, None], predictor_out.reshape(-1, joiner_dim)
    )
    return join(encoder_out.unsqueeze(2), rows)


def pick_log_probs(
    logits: Tensor, next_labels: Tensor, *, keep: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Compute the log-softmax and pick blank and next label from it.

    Args:
        logits: (N, T, S, V) float.
        next_labels: (N, T, S) int64.
        keep: whether the log-probabilities themselves are wanted. If not they overwrite the logits, and the
            gradient overwrites them: one tensor of that size instead of three.

    Returns:
        log_probs (N, T, S, V) or None, blank (N, T, S), label (N, T, S), all with gradient to ``logits``;
        float32 at least.
    """
    kernels = gpu.find_kernels("node", logits.device) if logits.dtype != torch.float64 else None
    if kernels is not None and logits.shape[-1] <= kernels.MAX_CLASSES:
        return _PickByKernel.apply(logits, next_labels, keep, kernels)  # type: ignore[no-untyped-call]
    logits = at_least_float32(logits)
    return _PickLogProbs.apply(logits, next_labels, keep)  # type: ignore[no-untyped-call]


class _PickByKernel(torch.autograd.Function):
    """One kernel in each direction; half-precision logits get half-precision gradients."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, next_labels: Tensor, keep: bool, kernels: Any
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.kernels = kernels
        log_probs, blank, label, total = kernels.pick(logits, next_labels, keep=keep)
        if log_probs is None:
            ctx.save_for_backward(logits, total, next_labels)
        else:
            ctx.save_for_backward(log_probs, None, next_labels)
        ctx.dtype = logits.dtype
        return log_probs, blank, label

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        if all(grad is None for grad in grads):
            return None, None, None, None
        scores, total, next_labels = ctx.saved_tensors
        return ctx.kernels.unpick(scores, total, next_labels, ctx.dtype, *grads), None, None, None


class _PickLogProbs(torch.autograd.Function):
    """One dense gradient for all picks; plain gathers would build one for each pick and add them."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, next_labels: Tensor, keep: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.keep = keep
        if keep:
            log_probs = logits.log_softmax(-1)
        else:
            # Not marked as dirty, which autograd does not allow for views. Other uses of the logits in a
            # backward pass fail by their version counter.
            log_probs = logits.detach()
            for utterance in log_probs:
                utterance.copy_(utterance.log_softmax(-1))
        index = next_labels.unsqueeze(-1)
        ctx.save_for_backward(log_probs, index)
        blank, label = log_probs[..., 0].clone(), log_probs.gather(-1, index).squeeze(-1)
        return log_probs if keep else None, blank, label

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_all: Tensor | None, grad_blank: Tensor | None, grad_label: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        log_probs, index = ctx.saved_tensors
        picked = [grad for grad in (grad_blank, grad_label) if grad is not None]
        if grad_all is None and not picked:
            return None, None, None
        total = sum(picked, start=log_probs.new_zeros(log_probs.shape[:-1]))
        if grad_all is not None:
            total = total + grad_all.sum(-1)
        grad = (log_probs.exp() if ctx.keep else log_probs.exp_()).mul_(-total.unsqueeze(-1))
        if grad_all is not None:
            grad += grad_all
        if grad_blank is not None:
            grad[..., 0] += grad_blank
        if grad_label is not None:
            grad.scatter_add_(-1, index, grad_label.unsqueeze(-1))
        return grad, None, None
