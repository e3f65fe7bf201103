"""The one exception of the runtime that is meant for the user."""

from __future__ import annotations


class BundleError(ValueError):
    """A model folder or an audio file that cannot be used: one sentence with the file and the fix."""
