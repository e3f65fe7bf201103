"""Scores of transcripts."""

from __future__ import annotations
