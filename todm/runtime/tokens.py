"""Read ``tokens.txt``, one ``symbol id`` per line, as sherpa-onnx does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BundleError

WORD_START = "\u2581"


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """Symbols by id.

    Args:
        symbols: symbol of every id.
        unk_id: id of ``<unk>``, which decoding treats as blank; -1 without ``<unk>``.
    """

    symbols: Mapping[int, str]
    unk_id: int = -1

    def __len__(self) -> int:
        return len(self.symbols)

    def token(self, token_id: int) -> str:
        """Symbol as a piece of text, with a space for a leading U+2581."""
        symbol = self.symbols[token_id]
        return " " + symbol[1:] if symbol.startswith(WORD_START) else symbol

    def text(self, token_ids: Iterable[int]) -> str:
        """Text of `token_ids`, without spaces at its ends."""
        return "".join(self.token(i) for i in token_ids).strip()


def read_tokens(path: str | Path) -> TokenTable:
    """Read and check a symbol table.

    Raises:
        BundleError: the file is missing or not UTF-8; a line is not ``symbol id``; an id or symbol is
            repeated; the ids are not 0 to V - 1; or id 0 is not ``<blk>``.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        if any(path.parent.glob(f"*/{path.name}")):
            raise BundleError(f"{path.parent}: holds bundles; name one of its folders") from None
        raise BundleError(f"{path}: no such file; export the model again") from None
    except UnicodeDecodeError:
        raise BundleError(f"{path}: not UTF-8 text; export the model again") from None
    symbols: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        # Only ASCII blanks are separators: a symbol may contain other white space.
        fields = [field for field in line.strip(" \t\r").replace("\t", " ").split(" ") if field]
        if not fields:
            continue
        symbol = fields[0] if len(fields) == 2 else " "  # a line with only an id means the space
        if len(fields) > 2 or not fields[-1].isdecimal():
            raise BundleError(f"{path}: line {number} is not 'symbol id': {line!r}; export the model again")
        token_id = int(fields[-1])
        if token_id in symbols:
            raise BundleError(f"{path}: line {number} repeats id {token_id}; export the model again")
        symbols[token_id] = symbol
    ids = {symbol: token_id for token_id, symbol in symbols.items()}
    if sorted(symbols) != list(range(len(symbols))) or not symbols:
        raise BundleError(
            f"{path}: the ids must be 0 to {max(len(symbols) - 1, 0)} without a gap; export the model again"
        )
    if len(ids) != len(symbols):
        raise BundleError(f"{path}: a symbol has two ids; export the model again")
    if symbols[0] != "<blk>":
        raise BundleError(f"{path}: id 0 must be <blk>, not {symbols[0]!r}; export the model again")
    return TokenTable(symbols=symbols, unk_id=ids.get("<unk>", -1))
