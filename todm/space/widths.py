"""`Widths`: an immutable mapping from the name of an elastic dimension to its widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class Widths(Mapping[str, tuple[int, ...]]):
    """Widths by dimension name: hashable, comparable, in the order of the names.

    Args:
        values: one sequence of widths for each name.

    Example:
        >>> widths = Widths({"ffn_dim": [8, 16]})
        >>> widths["ffn_dim"], widths == {"ffn_dim": (8, 16)}
        ((8, 16), True)
    """

    __slots__ = ("_items",)

    def __init__(self, values: Mapping[str, Sequence[int]]) -> None:
        self._items = {name: tuple(values[name]) for name in sorted(values)}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._items == dict(other)

    def __lt__(self, other: Widths) -> bool:
        return tuple(self._items.items()) < tuple(other._items.items())

    def __repr__(self) -> str:
        return repr(self._items)

    def to_dict(self) -> dict[str, list[int]]:
        """Plain values for JSON or YAML."""
        return {name: list(values) for name, values in self._items.items()}
