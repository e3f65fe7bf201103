"""The searches by name."""

from __future__ import annotations

from typing import Literal

from .beam import BeamSearch
from .bundle import Bundle
from .errors import BundleError
from .greedy import GreedySearch
from .search import Search

Method = Literal["greedy", "beam"]


def make_search(
    bundle: Bundle, method: Method = "greedy", *, max_active_paths: int = 4, blank_penalty: float = 0.0
) -> Search:
    """Search over a bundle's decoder and joiner.

    Args:
        bundle: the opened model folder.
        method: ``greedy`` or ``beam`` (modified beam search).
        max_active_paths: hypotheses that the beam keeps.
        blank_penalty: subtracted from the blank's logit, at least 0.
    """
    if method == "greedy":
        return GreedySearch(bundle, blank_penalty=blank_penalty)
    if method == "beam":
        return BeamSearch(bundle, max_active_paths=max_active_paths, blank_penalty=blank_penalty)
    raise BundleError(f"method: {method!r} is neither 'greedy' nor 'beam'")
