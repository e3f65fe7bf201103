"""Errors that the user can fix; every other exception is a defect of this project."""

from __future__ import annotations


class UserError(ValueError):
    """Unusable input, described in one sentence that names the file or key and the fix.

    The command line prints the sentence and exits with code 2. Any other exception keeps its traceback.
    """


class AudioError(UserError):
    """Audio, or a call of a stream, that is refused; the stream is as if the call had not been made."""


class BundleError(UserError):
    """A model folder, an audio file or a runtime that cannot be used."""
