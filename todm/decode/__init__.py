"""Greedy decoding of plain nets in torch, streaming emulation, and word error rate."""

from __future__ import annotations
