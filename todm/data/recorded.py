"""Recorded noise and measured rooms in training, on log-mel features.

`todm.data.sound_folders` computes the archives in ``todm prepare``. Both mixtures are approximations on the
powers of mel bins: powers of different sounds add, and phases are ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from todm.config import DataConfig
from todm.data.archive import ArchiveReader
from todm.errors import UserError
from todm.files import read_json
from todm.layout import DataFolder
from todm.runtime.fbank import LOG_FLOOR

_DB = math.log(10) / 10


class SoundArchive:
    """Arrays (T, C) of many sounds on disk, read piece by piece.

    Args:
        index: JSON file with the folder of the recordings and the keys of their arrays.
        archive: file of the arrays.
        setting: name of the setting that gives the folder, for messages.
        folder: its value.

    Raises:
        UserError: the archive does not exist, or was computed from another folder.
    """

    def __init__(self, index: Path, archive: Path, *, setting: str, folder: str) -> None:
        if not (index.is_file() and archive.is_file()):
            raise UserError(f"{setting}: {index} is missing; run 'todm prepare --stage sounds' first")
        content = read_json(index)
        if content["folder"] != folder:
            raise UserError(
                f"{setting}: {index} was computed from {content['folder']}, not from {folder}; run 'todm "
                "prepare --stage sounds' again"
            )
        self._keys = [str(key) for key in content["keys"]]
        self._lens = [int(key.split(",")[1]) for key in self._keys]
        self._reader = ArchiveReader(archive)

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, choice: float) -> Tensor:
        """Read the whole array (T, C) of a sound.

        Args:
            choice: 0 to below 1, selects the sound.
        """
        return torch.from_numpy(self._reader.read(self._keys[self._select(choice)]))

    def read_excerpt(self, choice: float, start: float, num_frames: int) -> Tensor:
        """Read consecutive frames (num_frames, C) of a sound; shorter sounds are repeated.

        Args:
            choice: 0 to below 1, selects the sound.
            start: 0 to below 1, selects the first frame.
            num_frames: length of the excerpt.
        """
        index = self._select(choice)
        key, length = self._keys[index], self._lens[index]
        if length >= num_frames:
            first = min(int(start * (length - num_frames + 1)), length - num_frames)
            return torch.from_numpy(self._reader.read(key, first, first + num_frames))
        place = (torch.arange(num_frames) + int(start * length)) % length
        return torch.from_numpy(self._reader.read(key))[place]

    def _select(self, choice: float) -> int:
        return min(int(choice * len(self._keys)), len(self._keys) - 1)


@dataclass(frozen=True, kw_only=True)
class RecordedSounds:
    """Archives that a training mixes in; None where no folder was given.

    Args:
        noise: log-mel features of noise and music.
        rooms: see `todm.data.sound_folders.measure_room`.
    """

    noise: SoundArchive | None = None
    rooms: SoundArchive | None = None


NO_SOUNDS = RecordedSounds()


def open_sounds(config: DataConfig, data: DataFolder) -> RecordedSounds:
    """Open the archives of the folders that `config` names.

    Raises:
        UserError: ``todm prepare`` has not computed them.
    """
    noise = rooms = None
    if config.noise_dir:
        noise = SoundArchive(
            data.noise_index, data.noise_archive, setting="data.noise_dir", folder=config.noise_dir
        )
    if config.rir_dir:
        rooms = SoundArchive(
            data.room_index, data.room_archive, setting="data.rir_dir", folder=config.rir_dir
        )
    return RecordedSounds(noise=noise, rooms=rooms)


def mix_noise(
    feats: Tensor,
    lens: Tensor,
    prob: float,
    snr_db: tuple[float, float],
    noise: SoundArchive,
    generator: torch.Generator,
) -> Tensor:
    """Add the power of a random excerpt of recorded noise to some utterances.

    Args:
        feats: (N, T, C) log power.
        lens: (N,) frames.
        prob: share of utterances that get noise.
        snr_db: range of the ratio of mean powers, summed over bins, in decibels; uniform.
        noise: recordings; each is equally likely.
        generator: draws the utterances, excerpts and ratios.
    """
    draws = torch.rand(4, len(feats), generator=generator, device=generator.device)
    chosen, choices, starts, ratios = draws.tolist()
    rows = [row for row, draw in enumerate(chosen) if draw < prob]
    if not rows:
        return feats
    sizes = lens.tolist()
    feats = feats.clone()
    for row in rows:
        clean = feats[row, : sizes[row]]
        sound = noise.read_excerpt(choices[row], starts[row], sizes[row]).to(feats.device, feats.dtype)
        power = _remove_floor(sound)
        ratio = math.exp((snr_db[0] + (snr_db[1] - snr_db[0]) * ratios[row]) * _DB)
        scale = clean.exp().sum() / power.sum().clamp(min=1e-9) / ratio
        feats[row, : sizes[row]] = torch.logaddexp(clean, (scale * power).clamp_(min=1e-30).log_())
    return feats


def reverberate_in_rooms(
    feats: Tensor, lens: Tensor, prob: float, rooms: SoundArchive, generator: torch.Generator
) -> Tensor:
    """Convolve the powers of some utterances with the energy decay of a measured room.

    The power of each mel bin is convolved over frames with the room's energy in that bin. This ignores the
    phases of the reflections.

    Args:
        feats: (N, T, C) log power.
        lens: (N,) frames.
        prob: share of utterances that are reverberated.
        rooms: energy decays (K, C), whose mean over bins sums to 1.
        generator: draws the utterances and their rooms.
    """
    chosen, choices = torch.rand(2, len(feats), generator=generator, device=generator.device).tolist()
    rows = [row for row, draw in enumerate(chosen) if draw < prob]
    if not rows:
        return feats
    sizes = lens.tolist()
    feats = feats.clone()
    for row in rows:
        decay = rooms.read(choices[row]).to(feats.device, feats.dtype)
        power = _remove_floor(feats[row, : sizes[row]]).T  # (C, T)
        padded = torch.nn.functional.pad(power, (len(decay) - 1, 0))
        wet = torch.nn.functional.conv1d(padded[None], decay.flip(0).T[:, None], groups=len(power))[0].T
        feats[row, : sizes[row]] = (wet + math.exp(LOG_FLOOR)).log()
    return feats


def _remove_floor(feats: Tensor) -> Tensor:
    """Compute powers in which digital silence is 0."""
    return (feats.exp() - math.exp(LOG_FLOOR)).clamp_(min=0.0)
