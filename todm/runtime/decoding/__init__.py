"""Decoding methods of the transducer, by name: greedy search and modified beam search."""

from __future__ import annotations

from typing import Literal

from ..bundle import Bundle
from ..errors import BundleError
from .beam import BeamSearch
from .greedy import GreedySearch
from .interface import DecodingResult, TokenSearch

__all__ = ["DecodingResult", "Method", "TokenSearch", "make_search"]

Method = Literal["greedy", "beam"]


def make_search(
    bundle: Bundle, method: Method = "greedy", *, max_active_paths: int = 4, blank_penalty: float = 0.0
) -> TokenSearch:
    """Make the search over a bundle's decoder and joiner.

    Args:
        bundle: an opened model folder.
        method: ``greedy`` or ``beam`` (modified beam search).
        max_active_paths: hypotheses kept by the beam, at least 1.
        blank_penalty: subtracted from the logit of blank, at least 0.

    Raises:
        BundleError: unknown method.
    """
    if method == "greedy":
        return GreedySearch(bundle, blank_penalty=blank_penalty)
    if method == "beam":
        return BeamSearch(bundle, max_active_paths=max_active_paths, blank_penalty=blank_penalty)
    raise BundleError(f"method: {method!r} is neither 'greedy' nor 'beam'")
