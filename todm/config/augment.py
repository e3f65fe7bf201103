"""Settings ``augment.*``: distortions of features in training."""

from __future__ import annotations

from dataclasses import dataclass

from todm.config.fields import setting


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Distortions of log-mel features in training, drawn anew for every utterance."""

    tempo: float = setting(0.0, "Largest relative change of duration; frequencies stay.", ge=0.0, lt=1.0)
    chain_prob: float = setting(
        0.0,
        "Share of batches whose utterances are joined into chains with pauses between them, as in a stream "
        "that carries encoder state and labels from one utterance to the next.",
        ge=0.0,
        le=1.0,
    )
    chain_utterances: int = setting(
        4, "Most utterances in a chain, drawn uniformly from 2 for each batch.", ge=2, le=1000
    )
    chain_pause_frames: int = setting(
        300,
        "Longest pause between the utterances of a chain in frames; half of the pauses are short.",
        ge=0,
        le=100_000,
    )
    cut_prob: float = setting(
        0.0,
        "Share of utterance beginnings and ends that are cut at random between the recording's edge and the "
        "edge of speech, as a voice activity detector cuts them.",
        ge=0.0,
        le=1.0,
    )
    wordless_prob: float = setting(
        0.0,
        "Share of utterances replaced by silence, noise, hum, clicks or tones of the same length without "
        "words, and by excerpts of `data.noise_dir` if it is set.",
        ge=0.0,
        le=1.0,
    )
    reverb_prob: float = setting(
        0.0,
        "Share of utterances that get the reverberation of a room: of `data.rir_dir` if it is set, else "
        "simulated.",
        ge=0.0,
        le=1.0,
    )
    babble_prob: float = setting(
        0.0,
        "Share of utterances that get babble: other utterances of the batch, at `noise_snr_db`.",
        ge=0.0,
        le=1.0,
    )
    attenuation_db: float = setting(
        0.0,
        "Largest attenuation of half of the utterances in decibels, uniform from 0: distant or quiet voices.",
        ge=0.0,
        le=120.0,
    )
    freq_warp: float = setting(
        0.1, "Vocal tract length perturbation: largest relative stretch of the mel axis.", ge=0.0, lt=1.0
    )
    gain_db: float = setting(
        6.0, "Level change in decibels, uniform in plus or minus this.", ge=0.0, le=120.0
    )
    tilt_db: float = setting(
        6.0,
        "Spectral tilt from the lowest to the highest bin in decibels, uniform in plus or minus this.",
        ge=0.0,
        le=120.0,
    )
    ripple_db: float = setting(
        0.0,
        "Height in decibels of four slow ripples over the mel axis, each uniform in plus or minus this.",
        ge=0.0,
        le=120.0,
    )
    noise_prob: float = setting(
        0.3,
        "Share of utterances that get noise: excerpts of `data.noise_dir` if it is set, else stationary "
        "coloured noise.",
        ge=0.0,
        le=1.0,
    )
    noise_colour_prob: float = setting(
        0.0,
        "Share of the synthetic noises that are between white and brown: their power falls by 0 to 6 dB per "
        "octave. The others are near brown, with ripples.",
        ge=0.0,
        le=1.0,
    )
    hum_prob: float = setting(
        0.0,
        "Share of utterances that get mains hum: harmonics of 50 or 60 Hz, at `noise_snr_db`.",
        ge=0.0,
        le=1.0,
    )
    narrowband_prob: float = setting(
        0.0,
        "Share of utterances that get telephone bandwidth, as 8 kHz audio resampled to 16 kHz.",
        ge=0.0,
        le=1.0,
    )
    noise_snr_db: tuple[float, float] = setting(
        (5.0, 30.0), "Range of the signal-to-noise ratio in decibels.", ge=-100.0, le=200.0, pair=True
    )
    time_masks: int = setting(10, "Number of SpecAugment time masks.", ge=0, le=1000)
    time_mask_frames: int = setting(100, "Longest time mask in frames.", ge=0, le=100_000)
    time_mask_ratio: float = setting(
        0.15, "Largest share of an utterance's frames that all time masks cover.", ge=0.0, le=1.0
    )
    freq_masks: int = setting(2, "Number of SpecAugment frequency masks.", ge=0, le=80)
    freq_mask_bins: int = setting(27, "Widest frequency mask in mel bins.", ge=0, le=80)
    tail_prob: float = setting(1.0, "Share of utterances that get trailing silence.", ge=0.0, le=1.0)
    tail_frames: int = setting(
        40,
        "Most frames of digital silence appended to an utterance, drawn uniformly from 0, as a streaming "
        "host appends silence when the audio ends.",
        ge=0,
        le=100_000,
    )
    warmup_steps: int = setting(
        0, "Steps after the alignment warm-up over which all distortions grow from 0.", ge=0, le=100_000_000
    )
