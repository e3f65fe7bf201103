"""Speech synthesis with espeak-ng through ctypes, from the wheel ``espeakng-loader``."""

from __future__ import annotations

import ctypes

import numpy as np

from todm.errors import UserError

ACCENTS = ("en", "en-us", "en-gb-x-rp", "en-us-nyc")
"""English voices; each variant such as ``+f2`` is another speaker."""

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback before espeak_Synth returns
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """Speech synthesiser of this process.

    The library keeps its state in global variables, and earlier texts change the samples of later ones (the
    flutter of the voice continues). Samples are therefore reproducible only for the same sequence of texts
    since the start of the process; create one object per process.

    Args:
        seed: seed of the breath noise, which espeak-ng otherwise takes from the clock.

    Raises:
        UserError: the wheel is missing or its data cannot be read.
    """

    def __init__(self, seed: int = 1) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise UserError("espeakng-loader: not installed; run pip install 'todm[demo]'") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self.sample_rate <= 0:
            raise UserError(f"{data.decode()}: espeak-ng cannot read its data; reinstall espeakng-loader")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._pieces: list[bytes] = []
        self._callback = _CALLBACK(self._collect)  # kept: the library holds only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    def synthesise(
        self, text: str, *, voice: str, rate: int, pitch: int, pitch_range: int = 50
    ) -> np.ndarray:
        """Synthesise one text.

        Args:
            text: English.
            voice: voice and variant, for example ``en-us+f2``; see `ACCENTS`.
            rate: words per minute, 80 to 450.
            pitch: 0 to 99; 50 is the default of the voice.
            pitch_range: 0 (monotone) to 99.

        Returns:
            (S,) float32 at `sample_rate`, in [-1, 1].
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(f"{voice}: espeak-ng has no such voice; reinstall espeakng-loader")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        raw = text.encode() + b"\0"
        self._library.espeak_Synth(raw, ctypes.c_size_t(len(raw)), 0, 0, 0, _UTF8, None, None)
        return np.frombuffer(b"".join(self._pieces), dtype=np.int16).astype(np.float32) / 32768
