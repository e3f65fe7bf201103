"""From a plain model to a folder that a device runs: export, quantisation, checks."""

from __future__ import annotations
