from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from todm.config import Mode
from todm.search.encoding import Encoding
from todm.space.space import SearchSpace

SPACE = SearchSpace(
    num_layers=6, depths=(3, 4, 6), widths={"ffn_dim": (144, 288, 432, 576)}, modes=("offline", "streaming")
)


@given(seed=st.integers(0, 10_000), mode=st.sampled_from(["offline", "streaming"]))
def test_decode_inverts_encode(seed: int, mode: Mode) -> None:
    spec = SPACE.sample(random.Random(seed), mode)
    encoding = Encoding(space=SPACE, mode=mode)
    genes = encoding.encode(spec)
    assert encoding.decode(genes) == spec
    assert all(0 <= gene <= top for gene, top in zip(genes, encoding.upper, strict=True))


@given(data=st.data())
def test_every_vector_means_a_spec_of_the_space(data: st.DataObject) -> None:
    encoding = Encoding(space=SPACE, mode="streaming")
    genes = [data.draw(st.integers(0, top)) for top in encoding.upper]
    spec = encoding.decode(genes)
    SPACE.check(spec)
    assert spec.mode == "streaming" and spec.depth == SPACE.depths[genes[0]]


def test_a_layer_keeps_its_width_when_the_depth_changes() -> None:
    encoding = Encoding(space=SPACE, mode="offline")
    shallow = encoding.decode((0, 3, 0, 2, 0, 0, 1))
    deep = encoding.decode((2, 3, 0, 2, 0, 0, 1))
    for layer, dim in zip(shallow.layers, shallow.width("ffn_dim"), strict=True):
        assert deep.width("ffn_dim")[deep.layers.index(layer)] == dim
