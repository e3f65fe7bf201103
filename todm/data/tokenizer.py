"""SentencePiece tokenizer with icefall's first ids: ``<blk>`` 0, ``<sos/eos>`` 1, ``<unk>`` 2."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import sentencepiece

from todm.errors import UserError
from todm.files import write_bytes, write_text
from todm.layout import LangFolder

SPECIAL_PIECES = ("<blk>", "<sos/eos>", "<unk>")


class Tokenizer:
    """Conversion of text to label ids and back.

    Args:
        model: serialised SentencePiece model.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return Tokenizer, (self.model,)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        method: Literal["unigram", "bpe", "word"] = "unigram",
    ) -> Tokenizer:
        """Train on transcripts; the same texts in the same order give the same model.

        Args:
            texts: transcripts.
            vocab_size: maximum number of tokens, the three special ones included.
            method: ``unigram`` (Kudo, arXiv 1804.10959), ``bpe`` (Sennrich et al., arXiv 1508.07909) or
                ``word`` (the most frequent words).

        Raises:
            UserError: no text, or ``vocab_size`` is below the number of characters.
        """
        lines = [text for text in texts if text.strip()]
        if not lines:
            raise UserError(
                "data.train_parts: no transcripts to train the tokenizer on; add a part with text"
            )
        num_chars = len(set("".join("".join(line.split()) for line in lines))) + 1  # with the mark of spaces
        if method != "word" and vocab_size < num_chars + len(SPECIAL_PIECES):
            raise UserError(
                f"data.vocab_size: {vocab_size} is too small for the {num_chars} characters of the "
                f"transcripts; give at least {num_chars + len(SPECIAL_PIECES)}"
            )
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type=method,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                control_symbols=list(SPECIAL_PIECES[:2]),
                unk_id=2,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=1,  # with more, the model would depend on timing
                shuffle_input_sentence=False,
                max_sentence_length=1 << 20,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise UserError(
                f"data.vocab_size: no tokenizer of {vocab_size} tokens for these transcripts ({error}); "
                "try another size"
            ) from error
        return cls(model.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read ``bpe.model`` from a tokenizer or model folder.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = LangFolder(folder).bpe_model
        if not path.is_file():
            raise UserError(f"{path}: no such file; run 'todm prepare --stage tokenizer' first")
        try:
            return cls(path.read_bytes())
        except RuntimeError as error:
            raise UserError(
                f"{path}: not a sentencepiece model; run 'todm prepare --stage tokenizer' again"
            ) from error

    def save(self, folder: Path) -> None:
        """Write ``bpe.model``, ``bpe.vocab`` (token, tab, score) and ``tokens.txt`` (token, space, id)."""
        pieces = self.pieces
        scores = [self._processor.get_score(index) for index in range(len(pieces))]
        vocab = "".join(f"{piece}\t{score:.6g}\n" for piece, score in zip(pieces, scores, strict=True))
        tokens = "".join(f"{piece} {index}\n" for index, piece in enumerate(pieces))
        lang = LangFolder(folder)
        write_bytes(lang.bpe_model, self.model)
        write_text(lang.bpe_vocab, vocab)
        write_text(lang.tokens, tokens)

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank included."""
        return int(self._processor.get_piece_size())

    @property
    def pieces(self) -> list[str]:
        """Token of each id; ``▁`` marks the start of a word."""
        return [str(self._processor.id_to_piece(index)) for index in range(self.vocab_size)]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Convert texts to label ids; never 0 or 1; 2 for characters that are not in the vocabulary."""
        encoded: list[list[int]] = self._processor.encode(list(texts), out_type=int)
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """Convert label ids to text, without blanks and unknown characters.

        Args:
            ids: label ids, each 0 to vocab_size - 1.
        """
        text: str = self._processor.decode([int(index) for index in ids if index > 2])
        return text
