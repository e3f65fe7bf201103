from __future__ import annotations

import numpy as np
import pytest
import torch

from todm.data.batch import collate
from todm.runtime.fbank import LOG_FLOOR


def test_collate_pads_features_with_silence_and_labels_with_zero() -> None:
    feats = [np.ones((3, 80), np.float32), np.full((5, 80), 2, np.float32)]
    batch = collate(feats, [[4, 5], []], texts=["A B", ""], ids=["x", "y"])
    assert batch.feats.shape == (2, 5, 80)
    assert batch.feats.dtype == torch.float32
    assert torch.equal(batch.feats[0, 3:], torch.full((2, 80), LOG_FLOOR))
    assert torch.equal(batch.feats[1], torch.full((5, 80), 2.0))
    assert batch.feat_lens.tolist() == [3, 5]
    assert batch.labels.tolist() == [[4, 5], [0, 0]]
    assert batch.label_lens.tolist() == [2, 0]
    assert {batch.labels.dtype, batch.feat_lens.dtype, batch.label_lens.dtype} == {torch.int64}
    assert len(batch) == 2
    moved = batch.to("meta")
    assert moved.feats.device.type == "meta"
    assert moved.texts == ("A B", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pinned_batch_is_the_same_batch() -> None:
    batch = collate([np.ones((3, 80), np.float32)], [[4]], texts=["A"], ids=["x"])
    pinned = batch.pin_memory()
    for name in ("feats", "feat_lens", "labels", "label_lens"):
        assert getattr(pinned, name).is_pinned() and torch.equal(getattr(pinned, name), getattr(batch, name))
    assert (pinned.texts, pinned.ids) == (batch.texts, batch.ids)
