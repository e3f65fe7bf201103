"""Augmentation of log-mel features, vectorised over the utterances of a batch.

All random numbers come from the given generator, so the seed of a step determines its batch.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from todm.config import AugmentConfig
from todm.data.background import replace_by_background
from todm.data.batch import Batch
from todm.data.chain import join_chains
from todm.data.edges import cut_edges
from todm.data.narrowband import narrow_band
from todm.data.noise import add_hum, add_noise, draw_uniform
from todm.data.recorded import NO_SOUNDS, RecordedSounds, mix_noise, reverberate_in_rooms
from todm.data.room import mix_babble, reverberate
from todm.runtime.fbank import LOG_FLOOR, FbankSettings

_DB = math.log(10) / 10
"""Nepers of power per decibel."""

_SILENT = LOG_FLOOR + 1e-3
_WARP_BREAK_HZ = 4800.0


def augment(
    batch: Batch,
    config: AugmentConfig,
    generator: torch.Generator,
    sounds: RecordedSounds = NO_SOUNDS,
) -> Batch:
    """Augment every utterance of a batch independently.

    Order: tempo, background in place of speech, cut edges, chains, trailing silence, frequency warp,
    reverberation, babble, noise, hum, telephone bandwidth, attenuation, level and colour, SpecAugment.
    Padding keeps `LOG_FLOOR`, and digital silence stays silent.

    Args:
        batch: utterances; not modified.
        config: strengths; an augmentation of strength 0 is skipped.
        generator: on the CPU, or on the device of the batch.
        sounds: recorded noise and rooms, in place of synthetic noise and simulated rooms.
    """
    if config.tempo > 0:
        batch = change_tempo(batch, config.tempo, generator)
    if config.wordless_prob > 0:
        batch = replace_by_background(batch, config.wordless_prob, generator, sounds.noise)
    if config.cut_prob > 0:
        batch = cut_edges(batch, config.cut_prob, generator)
    if (
        config.chain_prob > 0
        and torch.rand((), generator=generator, device=generator.device) < config.chain_prob
    ):
        batch = join_chains(batch, config.chain_utterances, config.chain_pause_frames, generator)
    if config.tail_frames > 0:
        batch = append_random_silence(batch, config.tail_frames, generator, config.tail_prob)
    feats, lens = batch.feats, batch.feat_lens
    valid = torch.arange(feats.shape[1], device=feats.device) < lens[:, None]  # (N, T)
    if config.freq_warp > 0:
        feats = warp_frequency(feats, config.freq_warp, generator)
    if config.reverb_prob > 0 and sounds.rooms is not None:
        feats = reverberate_in_rooms(feats, lens, config.reverb_prob, sounds.rooms, generator)
    elif config.reverb_prob > 0:
        feats = reverberate(feats, valid, config.reverb_prob, generator)
    if config.babble_prob > 0:
        feats = mix_babble(feats, lens, config.babble_prob, config.noise_snr_db, generator)
    if config.noise_prob > 0 and sounds.noise is not None:
        feats = mix_noise(feats, lens, config.noise_prob, config.noise_snr_db, sounds.noise, generator)
    elif config.noise_prob > 0:
        feats = add_noise(
            feats, valid, config.noise_prob, config.noise_snr_db, generator, config.noise_colour_prob
        )
    if config.hum_prob > 0:
        feats = add_hum(feats, valid, config.hum_prob, config.noise_snr_db, generator)
    if config.narrowband_prob > 0:
        feats = narrow_band(feats, config.narrowband_prob, generator)
    if config.attenuation_db > 0:
        feats = attenuate(feats, config.attenuation_db, generator)
    if config.gain_db > 0 or config.tilt_db > 0 or config.ripple_db > 0:
        feats = change_level(feats, config.gain_db, config.tilt_db, config.ripple_db, generator)
    if (
        min(config.time_masks, config.time_mask_frames) > 0
        or min(config.freq_masks, config.freq_mask_bins) > 0
    ):
        feats = apply_spec_augment(feats, lens, config, generator)
    if feats is batch.feats:
        return batch
    # A product, since filling with a boolean mask is several times slower on a CPU.
    return replace(batch, feats=(feats - LOG_FLOOR).mul_(valid[:, :, None].to(feats.dtype)).add_(LOG_FLOOR))


def scale_strength(config: AugmentConfig, strength: float) -> AugmentConfig:
    """Scale all augmentations by `strength`, 0 (none) to 1 (as configured); trailing silence is kept."""
    return replace(
        config,
        tempo=config.tempo * strength,
        chain_prob=config.chain_prob * strength,
        cut_prob=config.cut_prob * strength,
        wordless_prob=config.wordless_prob * strength,
        reverb_prob=config.reverb_prob * strength,
        babble_prob=config.babble_prob * strength,
        attenuation_db=config.attenuation_db * strength,
        freq_warp=config.freq_warp * strength,
        gain_db=config.gain_db * strength,
        tilt_db=config.tilt_db * strength,
        ripple_db=config.ripple_db * strength,
        noise_prob=config.noise_prob * strength,
        hum_prob=config.hum_prob * strength,
        narrowband_prob=config.narrowband_prob * strength,
        time_mask_ratio=config.time_mask_ratio * strength,
        freq_mask_bins=round(config.freq_mask_bins * strength),
    )


def change_tempo(batch: Batch, limit: float, generator: torch.Generator) -> Batch:
    """Stretch each utterance in time by linear interpolation between frames; frequencies are unchanged.

    Args:
        batch: utterances; not modified.
        limit: 0 to below 1; the length factor of each utterance is uniform in [1 - limit, 1 + limit].
        generator: see `augment`.
    """
    feats, old = batch.feats, batch.feat_lens
    factor = 1 + limit * draw_uniform(feats, len(batch), generator)
    lens = (old * factor).round().long().clamp(min=1)  # (N,)
    frames = torch.arange(int(lens.max()), device=feats.device)
    step = (old - 1) / (lens - 1).clamp(min=1)
    position = (frames * step[:, None]).minimum((old - 1)[:, None].to(step.dtype))  # (N, T')
    lower = position.floor().long()
    weight = (position - lower)[:, :, None].to(feats.dtype)
    rows = torch.arange(len(batch), device=feats.device)[:, None]
    upper = torch.minimum(lower + 1, (old - 1)[:, None])
    stretched = torch.lerp(feats[rows, lower], feats[rows, upper], weight)
    valid = (frames < lens[:, None])[:, :, None].to(feats.dtype)
    return replace(batch, feats=(stretched - LOG_FLOOR).mul_(valid).add_(LOG_FLOOR), feat_lens=lens)


def append_random_silence(batch: Batch, limit: int, generator: torch.Generator, prob: float = 1.0) -> Batch:
    """Append 0 to `limit` frames of digital silence, uniformly drawn, to a share `prob` of the utterances."""
    draws = (draw_uniform(batch.feats, len(batch), generator) + 1) / 2  # 0 to 1
    if prob < 1.0:
        draws = (draws - (1.0 - prob)).clamp(min=0.0) / max(prob, 1e-6)
    return append_silence(batch, (draws * (limit + 1)).long().clamp(max=limit))


def append_silence(batch: Batch, num_frames: Tensor | int) -> Batch:
    """Append digital silence to each utterance.

    Args:
        batch: utterances; not modified.
        num_frames: frames per utterance, (N,) int64, or one number for all.
    """
    lens = batch.feat_lens + num_frames
    extra = int(lens.max()) - batch.feats.shape[1]
    feats = (
        torch.nn.functional.pad(batch.feats, (0, 0, 0, extra), value=LOG_FLOOR) if extra > 0 else batch.feats
    )
    return replace(batch, feats=feats, feat_lens=lens)


def warp_frequency(feats: Tensor, limit: float, generator: torch.Generator) -> Tensor:
    """Warp the frequency axis: vocal-tract-length perturbation (Jaitly & Hinton 2013).

    Args:
        feats: (N, T, C).
        limit: 0 to below 1; the factor of each utterance is uniform in [1 - limit, 1 + limit].
        generator: see `augment`.
    """
    factor = 1 + limit * draw_uniform(feats, len(feats), generator)  # (N,)
    return torch.matmul(feats, _warp_matrix(factor, feats.shape[2]))


def _warp_matrix(factor: Tensor, num_bins: int) -> Tensor:
    """Compute matrices (N, C, C) of linear interpolation between mel bins, for factors (N,).

    The map of frequencies is piecewise linear: f' = a f for factor a up to a break, then a straight line to
    the upper edge, which is fixed. Bin j of the output is the input at the f' of its centre f.
    """
    settings = FbankSettings()
    nyquist = settings.sample_rate / 2
    high = settings.high_freq if settings.high_freq > 0 else nyquist + settings.high_freq
    mel_low, mel_high = _to_mel(settings.low_freq), _to_mel(high)
    mel_step = (mel_high - mel_low) / (num_bins + 1)
    centres = torch.arange(1, num_bins + 1, device=factor.device) * mel_step + mel_low
    hertz = 700 * torch.expm1(centres / 1127)  # (C,)
    factor = factor[:, None]
    turn = _WARP_BREAK_HZ * factor.clamp(max=1) / factor  # (N, 1): break before the map
    upper = high - (high - factor * turn) / (high - turn) * (high - hertz)
    warped = torch.where(hertz <= turn, factor * hertz, upper)  # (N, C)
    position = ((1127 * torch.log1p(warped / 700) - mel_low) / mel_step - 1).clamp(0, num_bins - 1)
    bins = torch.arange(num_bins, device=factor.device)
    return (1 - (position[:, None, :] - bins[:, None]).abs()).clamp(min=0)


def _to_mel(hertz: float) -> float:
    return 1127 * math.log1p(hertz / 700)


def attenuate(feats: Tensor, most_db: float, generator: torch.Generator) -> Tensor:
    """Lower the level of half of the utterances by 0 to `most_db` decibels, uniformly drawn.

    Args:
        feats: (N, T, C) log power.
        most_db: largest attenuation.
        generator: see `augment`.
    """
    share = draw_uniform(feats, len(feats), generator).clamp(min=0.0)
    return (feats - (_DB * most_db * share)[:, None, None]).clamp_(min=LOG_FLOOR)


def change_level(
    feats: Tensor, gain_db: float, tilt_db: float, ripple_db: float, generator: torch.Generator
) -> Tensor:
    """Add a random curve over the mel bins to each utterance: distance, room and microphone.

    Args:
        feats: (N, T, C).
        gain_db: largest change of level; uniform in [-gain_db, gain_db].
        tilt_db: largest change of the highest relative to the lowest bin, likewise.
        ripple_db: largest amplitude of each of four cosines over the mel axis (1 to 4 half waves), likewise.
        generator: see `augment`.
    """
    num_utterances, _, num_bins = feats.shape
    gain = gain_db * draw_uniform(feats, num_utterances, generator)
    tilt = tilt_db * draw_uniform(feats, num_utterances, generator)
    axis = torch.linspace(0, 1, num_bins, device=feats.device)
    curve = gain[:, None] + tilt[:, None] * (axis - 0.5)  # (N, C)
    if ripple_db > 0:
        orders = torch.arange(1, 5, device=feats.device)
        ripples = torch.cos(math.pi * orders[:, None] * axis)  # (4, C)
        curve = curve + ripple_db * draw_uniform(feats, (num_utterances, 4), generator) @ ripples
    sounding = (feats > _SILENT).to(feats.dtype)
    height = (feats + (_DB * curve - LOG_FLOOR)[:, None]).clamp_(min=0)  # relative to the floor
    return height.mul_(sounding).add_(LOG_FLOOR)


def apply_spec_augment(
    feats: Tensor, lens: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Apply SpecAugment (Park et al., arXiv 1904.08779) without time warping; masks hold the bin means.

    The number of time masks is the number of masks of ``time_mask_frames`` that fit into ``time_mask_ratio``
    of the frames, 1 to ``time_masks``. Their lengths are uniform; together they cover at most that share.

    Args:
        feats: (N, T, C), padded with `LOG_FLOOR`.
        lens: (N,) frames.
        config: mask settings.
        generator: see `augment`.
    """
    num_utterances, num_frames, num_bins = feats.shape
    time_draws = draw_uniform(feats, (2, num_utterances, max(config.time_masks, 0)), generator) / 2 + 0.5
    freq_draws = draw_uniform(feats, (2, num_utterances, max(config.freq_masks, 0)), generator) / 2 + 0.5
    mean = (feats.sum(1) - LOG_FLOOR * (num_frames - lens[:, None])) / lens[:, None]  # padding is LOG_FLOOR
    kept = feats - mean[:, None]
    if config.time_masks > 0 and config.time_mask_frames > 0 and config.time_mask_ratio > 0:
        budget = config.time_mask_ratio * lens  # (N,)
        count = (budget / config.time_mask_frames).ceil().clamp(1, config.time_masks)
        longest = (budget / count).clamp(max=config.time_mask_frames).floor()
        used = torch.arange(config.time_masks, device=feats.device) < count[:, None]
        hit = _spans(time_draws, longest[:, None] * used, lens[:, None], num_frames)
        kept.mul_((~hit)[:, :, None].to(feats.dtype))
    if config.freq_masks > 0 and config.freq_mask_bins > 0:
        longest = torch.full(
            (num_utterances, config.freq_masks), float(config.freq_mask_bins), device=feats.device
        )
        hit = _spans(freq_draws, longest, torch.tensor(num_bins, device=feats.device), num_bins)
        kept.mul_((~hit)[:, None].to(feats.dtype))
    return kept.add_(mean[:, None])


def _spans(draws: Tensor, longest: Tensor, size: Tensor, total: int) -> Tensor:
    """Compute the union (N, total) of K random spans per row.

    Args:
        draws: (2, N, K), uniform in [0, 1], for widths and starts.
        longest: (N, K), largest widths.
        size: broadcast to (N, K), end of the range of the spans, at most ``total``.
        total: length of the axis.
    """
    width = (draws[0] * (longest + 1)).floor().minimum(longest).minimum(size)
    start = (draws[1] * (size - width + 1)).floor().minimum(size - width)
    axis = torch.arange(total, device=draws.device)
    inside = (axis >= start[..., None]) & (axis < (start + width)[..., None])  # (N, K, total)
    return inside.any(1)
