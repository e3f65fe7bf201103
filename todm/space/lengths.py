"""Length of a sequence after the convolutional subsampling."""

from __future__ import annotations


def subsample_length(length: int, factor: int) -> int:
    """Number of encoder frames (or mel bins) that remain of `length`; 0 for a shorter input.

    Each of the log2(`factor`) convolutions has kernel 3, stride 2 and no padding: n becomes (n - 1) // 2.

    Example:
        >>> subsample_length(80, 4), subsample_length(7, 4), subsample_length(6, 4)
        (19, 1, 0)
    """
    while factor > 1:
        length, factor = (length - 1) // 2, factor // 2
    return max(length, 0)
