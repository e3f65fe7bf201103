from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import pytest

from todm.data.tokenizer import Tokenizer
from todm.errors import UserError

TEXTS = ["ONE TWO THREE", "TWO FOUR", "THREE ONE ONE", "FOUR FOUR TWO"] * 5


def test_first_ids_are_icefalls_and_text_is_restored() -> None:
    tokenizer = Tokenizer.train(TEXTS, 60)
    assert tokenizer.pieces[:3] == ["<blk>", "<sos/eos>", "<unk>"]
    ids = tokenizer.encode(["FOUR ONE TWO", "ONE"])
    assert [tokenizer.decode(item) for item in ids] == ["FOUR ONE TWO", "ONE"]
    assert all(index > 2 for item in ids for index in item)


def test_small_vocabulary_ends_in_whole_words() -> None:
    tokenizer = Tokenizer.train(TEXTS, 500)
    assert tokenizer.vocab_size < 30
    assert [len(item) for item in tokenizer.encode(["ONE TWO THREE FOUR"])] == [4]


def test_unseen_characters_are_unknown_and_special_ids_decode_to_nothing() -> None:
    tokenizer = Tokenizer.train(TEXTS, 60)
    assert 2 in tokenizer.encode(["ZZZ"])[0]
    one = tokenizer.encode(["ONE"])[0]
    assert tokenizer.decode([0, *one, 1, 2, 0]) == "ONE"
    assert not {0, 1} & set(tokenizer.encode(["<blk> <sos/eos>"])[0])


def test_training_is_repeatable_and_files_agree(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(TEXTS, 60)
    assert Tokenizer.train(TEXTS, 60).pieces == tokenizer.pieces
    tokenizer.save(tmp_path)
    symbols = [line.split(" ") for line in (tmp_path / "tokens.txt").read_text().splitlines()]
    assert [symbol for symbol, _ in symbols] == tokenizer.pieces
    assert [int(index) for _, index in symbols] == list(range(tokenizer.vocab_size))
    vocab = [line.split("\t") for line in (tmp_path / "bpe.vocab").read_text().splitlines()]
    assert [piece for piece, _ in vocab] == tokenizer.pieces
    assert all(float(score) <= 0 for _, score in vocab)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode(TEXTS) == tokenizer.encode(TEXTS)
    assert pickle.loads(pickle.dumps(loaded)).encode(TEXTS) == tokenizer.encode(TEXTS)


def test_impossible_sizes_and_broken_files_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vocab_size: 8 is too small .* give at least 13"):
        Tokenizer.train(TEXTS, 8)
    assert Tokenizer.train(TEXTS, 13).vocab_size == 13
    with pytest.raises(UserError, match="no transcripts"):
        Tokenizer.train([], 100)
    with pytest.raises(UserError, match="no such file; run"):
        Tokenizer.load(tmp_path)
    (tmp_path / "bpe.model").write_text("rubbish")
    with pytest.raises(UserError, match="not a sentencepiece model"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("method", ["bpe", "word"])
def test_other_methods_encode_whole_words_and_restore_text(method: Literal["bpe", "word"]) -> None:
    tokenizer = Tokenizer.train(TEXTS, 100, method)
    assert tokenizer.pieces[:3] == ["<blk>", "<sos/eos>", "<unk>"]
    ids = tokenizer.encode(["FOUR ONE TWO"])[0]
    assert len(ids) == 3
    assert tokenizer.decode(ids) == "FOUR ONE TWO"


def test_unseen_words_are_unknown_for_whole_words() -> None:
    tokenizer = Tokenizer.train(TEXTS, 7, "word")
    assert tokenizer.vocab_size == 7
    assert tokenizer.encode(["SEVEN"]) == [[2]]
