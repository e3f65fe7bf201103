from __future__ import annotations

import re

import numpy as np

from todm.data.grammar import ANSWERS, REQUESTS, SLOTS, draw_sentence


def test_every_slot_is_filled_and_used() -> None:
    named = {name for template in (*REQUESTS, *ANSWERS) for name in re.findall(r"{(\w+)}", template)}
    assert named == set(SLOTS)


def test_sentences_stay_in_the_vocabulary_and_reach_all_of_it() -> None:
    rng = np.random.default_rng(0)
    sentences = [draw_sentence(rng) for _ in range(5000)]
    words = {word for sentence in sentences for word in sentence.split()}
    fixed = {word for word in " ".join([*REQUESTS, *ANSWERS]).split() if not word.startswith("{")}
    assert words == fixed | {word for choices in SLOTS.values() for word in " ".join(choices).split()}
    assert 50 <= len(words) <= 70
    assert all(re.fullmatch(r"[A-Z]+( [A-Z]+){0,10}", sentence) for sentence in sentences)
    assert len(set(sentences)) > 500
