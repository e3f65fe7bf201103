"""The transducer loss: every backend against brute force, padding, extremes, bad input."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from todm.errors import UserError
from todm.losses import TransducerLoss
from todm.losses.band import Band, choose_band, feasible_size, full_band, make_diagonal_band
from todm.losses.native import pick_log_probs
from todm.losses.recursion import lattice_score
from todm.train.measurement import measure_peak_bytes

LENS = ([9, 7, 1, 5, 4], [5, 0, 3, 4, 1])


def assert_same(problem: Any, loss: TransducerLoss, expected: TransducerLoss, tolerance: float) -> None:
    close: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(loss.simple, expected.simple, **close)
    torch.testing.assert_close(loss.pruned, expected.pruned, check_dtype=False, **close)
    assert loss.band.size == expected.band.size
    assert torch.equal(loss.band.begin, expected.band.begin)
    torch.testing.assert_close(loss.log_probs, expected.log_probs, **close)
    for got, want in zip(problem.gradients(loss), problem.gradients(expected), strict=True):
        torch.testing.assert_close(got, want, **close)


def test_reference_equals_the_sum_over_all_alignments(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(0, [4, 2], [2, 3])
    loss = problem.loss("reference", smoothed=False)
    for n in range(2):
        frames, labels = int(problem.encoder_lens[n]), int(problem.label_lens[n])
        likelihood = 0.0
        # A path is a row of moves, the last of them a blank: choose which of the others are labels.
        for chosen in itertools.combinations(range(frames + labels - 1), labels):
            t = u = 0
            path = 0.0
            for move in range(frames + labels):
                token = int(problem.labels[n, u]) if move in chosen else 0
                path += float(loss.log_probs[n, t, u, token].detach())
                t, u = (t, u + 1) if token else (t + 1, u)
            likelihood += math.exp(path)
        assert float(loss.pruned[n].detach()) == pytest.approx(-math.log(likelihood), abs=1e-10)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scales", [(0.25, 0.0), (0.0, 0.0), (0.3, 0.2)])
@pytest.mark.parametrize("prune_range", [2, 3, 5, 9])
def test_native_equals_reference(
    make_problem: Callable[..., Any], seed: int, scales: tuple[float, float], prune_range: int
) -> None:
    problem = make_problem(seed, *LENS, extra_frames=seed % 2, extra_labels=seed // 2)
    kwargs = {"prune_range": prune_range, "lm_scale": scales[0], "am_scale": scales[1]}
    assert_same(problem, problem.loss("native", **kwargs), problem.loss("reference", **kwargs), 1e-9)


def test_native_in_float32_stays_exact_on_long_lattices(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(3, [300, 250], [40, 35], scale=3.0, vocab_size=20, joiner_dim=8)
    single = problem.to(torch.float32).loss("native")
    # On float32's band: near ties may be decided otherwise in float64.
    exact, banded = problem.loss("native"), problem.loss("native", band=single.band)
    torch.testing.assert_close(single.simple.double(), exact.simple, rtol=1e-5, atol=0)
    torch.testing.assert_close(single.pruned.double(), banded.pruned, rtol=1e-5, atol=0)


def test_torchaudio_equals_reference(make_problem: Callable[..., Any]) -> None:
    _require("torchaudio")
    problem = make_problem(1, *LENS, extra_frames=2, extra_labels=1).to(torch.float32)
    loss = problem.loss("torchaudio", prune_range=9)
    assert_same(problem, loss, problem.loss("reference", prune_range=9), 1e-4)


def test_torchaudio_without_any_label(make_problem: Callable[..., Any]) -> None:
    _require("torchaudio")
    problem = make_problem(1, [3, 2], [0, 0]).to(torch.float32)
    assert_same(problem, problem.loss("torchaudio"), problem.loss("reference"), 1e-4)


@pytest.mark.parametrize("prune_range", [2, 3, 9])
def test_k2_equals_reference(make_problem: Callable[..., Any], prune_range: int) -> None:
    _require("k2")
    problem = make_problem(1, *LENS, extra_frames=2, extra_labels=1).to(torch.float32)
    loss = problem.loss("k2", prune_range=prune_range)
    assert_same(problem, loss, problem.loss("reference", prune_range=prune_range), 1e-4)


def test_k2_smooths_alike_where_nothing_is_padded(make_problem: Callable[..., Any]) -> None:
    _require("k2")
    problem = make_problem(1, [7], [4]).to(torch.float32)
    loss = problem.loss("k2", lm_scale=0.3, am_scale=0.2)
    assert_same(problem, loss, problem.loss("reference", lm_scale=0.3, am_scale=0.2), 1e-4)


def test_k2_without_any_label(make_problem: Callable[..., Any]) -> None:
    _require("k2")
    problem = make_problem(1, [3, 2], [0, 0]).to(torch.float32)
    assert_same(problem, problem.loss("k2"), problem.loss("reference"), 1e-4)


def test_a_band_over_everything_is_the_full_lattice(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(2, *LENS)
    banded, full = problem.loss("native", prune_range=6), problem.loss("native", smoothed=False)
    assert banded.band.size == full.band.size == 6
    assert torch.equal(banded.pruned, full.pruned)
    assert torch.equal(full.simple, torch.zeros(5, dtype=torch.float64))


def test_students_run_on_the_teachers_band(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(2, *LENS)
    teacher = problem.loss("native", prune_range=4)
    student = problem.loss("native", smoothed=False, band=teacher.band)
    assert not student.simple.any()
    assert student.band is teacher.band
    assert torch.equal(student.pruned, teacher.pruned)
    assert torch.equal(student.log_probs, teacher.log_probs)


@pytest.mark.parametrize("power", [1.5, 4.0])
def test_a_path_power_agrees_with_brute_force(make_problem: Callable[..., Any], power: float) -> None:
    problem = make_problem(3, *LENS)
    native = problem.loss("native", prune_range=3, path_power=power)
    assert_same(problem, native, problem.loss("reference", prune_range=3, path_power=power), 1e-10)


def test_a_path_power_adds_the_renyi_entropy_of_the_paths(make_problem: Callable[..., Any]) -> None:
    """Two frames and one label: the paths are "label in frame 0" and "label in frame 1"."""
    problem = make_problem(4, [2], [1])
    power = 3.0
    plain = problem.loss("native", smoothed=False)
    sharp = problem.loss("native", smoothed=False, path_power=power)
    blank, label = plain.log_probs[0, ..., 0], plain.log_probs[0, ..., int(problem.labels[0, 0])]
    first = label[0, 0] + blank[0, 1] + blank[1, 1]
    second = blank[0, 0] + label[1, 0] + blank[1, 1]
    posterior = torch.stack((first, second)).softmax(0)
    renyi = posterior.pow(power).sum().log() / (1 - power)
    torch.testing.assert_close(sharp.pruned[0], plain.pruned[0] + (1 - 1 / power) * renyi)


@pytest.mark.parametrize("backend", ["k2", "torchaudio"])
def test_other_backends_refuse_a_path_power(make_problem: Callable[..., Any], backend: str) -> None:
    with pytest.raises(UserError, match=r"train\.loss\.path_power: .* supports 1 only"):
        make_problem(0, *LENS).loss(backend, path_power=2.0)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_band_that_is_given_leaves_the_smoothed_loss_alone(
    make_problem: Callable[..., Any], backend: str
) -> None:
    problem = make_problem(2, *LENS)
    chosen = problem.loss(backend, prune_range=3)
    size = feasible_size(3, problem.encoder_lens, problem.label_lens, problem.labels.shape[1])
    num_frames, num_labels = problem.encoder_out.shape[1], problem.labels.shape[1]
    band = make_diagonal_band(
        problem.encoder_lens, problem.label_lens, size, num_frames=num_frames, num_labels=num_labels
    )
    given = problem.loss(backend, band=band)
    assert given.band is band
    assert torch.equal(given.simple, chosen.simple)
    assert torch.equal(given.pruned, problem.loss(backend, smoothed=False, band=band).pruned)
    if backend != "reference":
        assert_same(problem, given, problem.loss("reference", band=band), 1e-10)


def test_torchaudio_refuses_a_band(make_problem: Callable[..., Any]) -> None:
    pytest.importorskip("torchaudio")
    problem = make_problem(2, *LENS)
    band = problem.loss("native", prune_range=2).band
    with pytest.raises(UserError, match=r"set train\.loss\.alignment_warmup_steps to 0 or use native"):
        problem.loss("torchaudio", band=band)


def test_pruning_only_ever_loses_paths(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(5, [8, 6], [6, 5])
    losses = [problem.loss("native", prune_range=size).pruned for size in (2, 4, 7)]
    assert (losses[0] > losses[1]).all()
    assert (losses[1] > losses[2]).all()


lens = st.lists(st.tuples(st.integers(2, 7), st.integers(0, 6)), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(lens=lens, seed=st.integers(0, 99), extra=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_padding_changes_nothing(
    make_problem: Callable[..., Any], lens: list[tuple[int, int]], seed: int, extra: tuple[int, int]
) -> None:
    """NaN in the padding: each utterance has the loss and the gradient that it has alone."""
    problem = make_problem(
        seed,
        [t for t, _ in lens],
        [u for _, u in lens],
        extra_frames=extra[0],
        extra_labels=extra[1],
        spoil_padding=True,
    )
    kwargs = {"prune_range": 4, "lm_scale": 0.2, "am_scale": 0.1}
    loss = problem.loss("native", **kwargs)
    assert torch.isfinite(loss.log_probs).all()
    gradients = torch.autograd.grad((loss.simple + loss.pruned).sum(), problem.leaves)
    weight = torch.zeros_like(problem.weight)
    for n, (num_frames, num_labels) in enumerate(lens):
        alone = problem.utterance(n)
        own = alone.loss("native", **kwargs)
        torch.testing.assert_close(loss.simple[n], own.simple[0])
        torch.testing.assert_close(loss.pruned[n], own.pruned[0])
        wanted = torch.autograd.grad((own.simple + own.pruned).sum(), alone.leaves)
        sizes = (num_frames, num_labels + 1, num_frames, num_labels + 1)
        for got, want, size in zip(gradients[:4], wanted[:4], sizes, strict=True):
            torch.testing.assert_close(got[n, :size], want[0])
            assert not got[n, size:].any()
        weight += wanted[4]
    torch.testing.assert_close(gradients[4], weight)


def test_gradient_of_the_recursion_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    encoder_lens, label_lens = torch.tensor([5, 3]), torch.tensor([4, 2])
    blank_occupation, label_occupation = torch.rand(2, 2, 5, 5, generator=generator)
    band = choose_band(blank_occupation, label_occupation, encoder_lens, label_lens, 3)
    moves = [torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2)]

    def score(blank: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return lattice_score(
            blank, label, band=band, num_labels=4, encoder_lens=encoder_lens, label_lens=label_lens
        )[0]

    assert torch.autograd.gradcheck(score, [x.requires_grad_() for x in moves])


def test_occupations_count_every_frame_and_every_label_once(make_problem: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    blank, label = (torch.randn(2, 6, 5, generator=generator) for _ in range(2))
    encoder_lens, label_lens = torch.tensor([6, 4]), torch.tensor([4, 2])
    band = full_band(2, 6, 4, blank.device)
    _, blanks, labels = lattice_score(
        blank, label, band=band, num_labels=4, encoder_lens=encoder_lens, label_lens=label_lens
    )
    torch.testing.assert_close(blanks.sum(2), (torch.arange(6) < encoder_lens[:, None]).float())
    torch.testing.assert_close(labels.sum(1), (torch.arange(5) < label_lens[:, None]).float())


@pytest.mark.parametrize("outputs", [(0, 1, 2), (0,), (2,), (1, 2)])
def test_gradient_of_the_picks(outputs: tuple[int, ...]) -> None:
    logits = torch.randn(2, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # A next label of 0 stands at the last position: both picks are the same class there.
    labels = torch.tensor([0, 1, 3]).repeat(4).reshape(2, 3, 2)

    def picks(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        picked = pick_log_probs(logits, labels)
        return tuple(part for i in outputs if (part := picked[i]) is not None)

    assert torch.autograd.gradcheck(picks, logits.requires_grad_())


@pytest.mark.parametrize("outputs", [(1,), (1, 2)])
def test_picks_that_keep_nothing_are_the_same_and_cannot_be_taken_twice(outputs: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    leaf = torch.randn(2, 3, 2, 4, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, 3]).repeat(4).reshape(2, 3, 2)
    results = []
    for keep in (True, False):
        _, *picked = pick_log_probs(leaf * 2.0, labels, keep=keep)
        loss = torch.stack([picked[i - 1].square().sum() for i in outputs]).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=not keep)
        results.append((*picked, gradient))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, leaf)


@pytest.mark.parametrize("path_power", [1.0, 2.0])
def test_without_log_probs_the_loss_is_the_same(make_problem: Callable[..., Any], path_power: float) -> None:
    problem = make_problem(0, *LENS)
    kept = problem.loss("native", prune_range=3, path_power=path_power)
    spared = problem.loss("native", prune_range=3, path_power=path_power, with_log_probs=False)
    torch.testing.assert_close(kept.pruned, spared.pruned)
    for one, other in zip(problem.gradients(kept), problem.gradients(spared), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(AssertionError, match="with_log_probs"):
        _ = spared.log_probs


def test_without_log_probs_the_joiner_needs_its_gathered_input_for_a_part_of_the_batch(
    make_problem: Callable[..., Any],
) -> None:
    """Logits and hidden layer stay for the gradient; nothing else as large stands for the whole batch."""
    vocab_size, joiner_dim, size = 150, 150, 3
    problem = make_problem(0, [60] * 8, [4] * 8, vocab_size=vocab_size, joiner_dim=joiner_dim)
    problem = problem.to(torch.float32)
    band = problem.loss("native", prune_range=size).band

    def value_and_gradient() -> None:
        loss = problem.loss("native", smoothed=False, band=band, with_log_probs=False)
        torch.autograd.grad(loss.pruned.sum(), problem.leaves[:2])

    stays = 4 * 8 * 60 * size * (vocab_size + joiner_dim)
    assert stays < measure_peak_bytes(value_and_gradient, torch.device("cpu")) < 1.5 * stays


def test_autocast_sums_the_gradients_of_the_joiners_blocks_in_float32(
    make_problem: Callable[..., Any],
) -> None:
    problem = make_problem(0, *LENS).to(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = problem.loss("native", prune_range=3)
        spared = problem.loss("native", prune_range=3, with_log_probs=False)
    torch.testing.assert_close(spared.pruned, loss.pruned)
    whole, parts = (problem.gradients(one)[-1] for one in (loss, spared))
    torch.testing.assert_close(parts, whole, rtol=0.02, atol=0.02)
    assert torch.equal(whole, whole.bfloat16().float())
    assert not torch.equal(parts, parts.bfloat16().float())


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_huge_logits_stay_finite(make_problem: Callable[..., Any], scale: float) -> None:
    problem = make_problem(0, *LENS)
    for leaf in (problem.am, problem.lm, problem.weight):
        leaf.data *= scale
    single = problem.to(torch.float32)
    loss = single.loss("native", prune_range=3)
    assert torch.isfinite(loss.simple).all()
    want = problem.loss("reference", band=loss.band).pruned
    torch.testing.assert_close(loss.pruned.double(), want, rtol=1e-4, atol=1e-4)
    for gradient in single.gradients(loss):
        assert torch.isfinite(gradient).all()


def test_impossible_blank_or_label_gives_no_nan() -> None:
    blank, label = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    blank[0, 1, 1] = -torch.inf
    label[1, :, 0] = -torch.inf  # no way to the first label: no path at all
    blank.requires_grad_()
    label.requires_grad_()
    lengths = {"encoder_lens": torch.tensor([3, 3]), "label_lens": torch.tensor([2, 2])}
    band = full_band(2, 3, 2, blank.device)
    score, *_ = lattice_score(blank, label, band=band, num_labels=2, **lengths)
    # Six alignments of two labels to three frames; in two of them frame 1 is left at position 1.
    assert float(score[0].detach()) == pytest.approx(math.log(4))
    assert float(score[1].detach()) == -torch.inf
    for gradient in torch.autograd.grad(score.sum(), (blank, label)):
        assert torch.isfinite(gradient).all()
        assert not gradient[1].any()


def test_single_frame_and_empty_transcript(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(0, [1, 1], [6, 0])
    loss = problem.loss("native", prune_range=2)
    assert loss.band.size == 7  # one frame has to hold all labels
    assert_same(problem, loss, problem.loss("reference", prune_range=2), 1e-9)
    assert float(loss.pruned[1].detach()) == pytest.approx(-float(loss.log_probs[1, 0, 0, 0].detach()))


def test_autocast_reaches_the_joiner_only(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(0, *LENS).to(torch.float32)
    plain = problem.loss("native", prune_range=3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = problem.loss("native", prune_range=3)
    assert mixed.log_probs.dtype == mixed.pruned.dtype == mixed.simple.dtype == torch.float32
    assert torch.equal(mixed.simple, plain.simple)
    assert not torch.equal(mixed.pruned, plain.pruned)
    torch.testing.assert_close(mixed.pruned, plain.pruned, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("backend", ["k2", "torchaudio"])
def test_a_missing_backend_is_the_users_to_mend(
    make_problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    for module in (backend, "torchaudio.functional"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"train\.loss\.backend.*native"):
        make_problem(0, *LENS).loss(backend)


def test_bad_settings_are_the_users_to_mend(make_problem: Callable[..., Any]) -> None:
    problem = make_problem(0, *LENS)
    with pytest.raises(UserError, match=r"train\.loss\.backend: 'warp' is unknown"):
        problem.loss("warp")
    with pytest.raises(UserError, match=r"train\.loss\.prune_range: 1"):
        problem.loss("native", prune_range=1)


band_lens = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(lens=band_lens, prune_range=st.integers(2, 6), extra=st.integers(0, 2), seed=st.integers(0, 999))
def test_any_occupations_give_a_sound_band(
    lens: list[tuple[int, int]], prune_range: int, extra: int, seed: int
) -> None:
    encoder_lens, label_lens = (torch.tensor(x) for x in zip(*lens, strict=True))
    num_frames, num_labels = int(encoder_lens.max()) + extra, int(label_lens.max()) + extra
    size = feasible_size(prune_range, encoder_lens, label_lens, num_labels)
    assert size <= num_labels + 1
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lens), num_frames, num_labels + 1)
    blank, label = (torch.rand(shape, generator=generator) for _ in range(2))
    band = choose_band(blank, label, encoder_lens, label_lens, size)
    check_band(band, lens, num_labels)
    picks = torch.randn(2, *shape[:2], size, generator=generator)
    score, *_ = lattice_score(
        *picks, band=band, num_labels=num_labels, encoder_lens=encoder_lens, label_lens=label_lens
    )
    assert torch.isfinite(score).all()


def check_band(band: Band, lens: list[tuple[int, int]], num_labels: int) -> None:
    """What `Band` promises."""
    for begin, (frames, labels) in zip(band.begin.tolist(), lens, strict=True):
        assert begin[0] == 0
        assert all(0 <= b - a <= band.size - 1 for a, b in itertools.pairwise(begin[:frames]))
        assert begin[frames - 1] == max(labels + 1 - band.size, 0)
        assert all(0 <= b <= num_labels + 1 - band.size for b in begin)


@settings(max_examples=80, deadline=None)
@given(lens=band_lens, wanted=st.integers(2, 6), extra=st.integers(0, 2))
def test_any_lengths_give_a_sound_diagonal(lens: list[tuple[int, int]], wanted: int, extra: int) -> None:
    encoder_lens, label_lens = (torch.tensor(x) for x in zip(*lens, strict=True))
    num_frames, num_labels = int(encoder_lens.max()) + extra, int(label_lens.max()) + extra
    size = feasible_size(wanted, encoder_lens, label_lens, num_labels)
    band = make_diagonal_band(encoder_lens, label_lens, size, num_frames=num_frames, num_labels=num_labels)
    check_band(band, lens, num_labels)


def test_the_diagonal_spreads_the_labels_evenly() -> None:
    band = make_diagonal_band(torch.tensor([12, 6]), torch.tensor([3, 5]), 3, num_frames=12, num_labels=5)
    # 3 labels, so 3 frames for each of 4 positions; windows reach one position to either side.
    assert band.begin[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert band.begin[1, :6].tolist() == [0, 0, 1, 2, 3, 3]


@settings(max_examples=60, deadline=None)
@given(per_frame=st.lists(st.integers(0, 2), min_size=1, max_size=12), size=st.integers(3, 5))
def test_the_band_holds_a_certain_path(per_frame: list[int], size: int) -> None:
    """All occupation on one path that fits the windows: the band must keep every node of it."""
    num_frames, num_labels = len(per_frame), sum(per_frame)
    size = min(size, num_labels + 1)
    blank, label = torch.zeros(2, 1, num_frames, num_labels + 1)
    nodes, u = [], 0
    for t, count in enumerate(per_frame):
        for _ in range(count):
            nodes.append((t, u))
            label[0, t, u] = 1
            u += 1
        nodes.append((t, u))
        blank[0, t, u] = 1
    band = choose_band(blank, label, torch.tensor([num_frames]), torch.tensor([num_labels]), size)
    assert all(0 <= u - int(band.begin[0, t]) < size for t, u in nodes)


def test_a_window_does_not_count_paths_that_enter_from_below() -> None:
    """In frame 2 all mass leaves from 2 and 3, but 0.6 of it passed 1 in that frame: keep 1 and 2."""
    blank, label = torch.zeros(2, 1, 5, 5)
    blank[0, [0, 1, 3, 4], [0, 0, 3, 4]] = 1.0
    blank[0, 2, 2:4] = torch.tensor([0.6, 0.4])
    label[0, 2, 1] = 0.6
    band = choose_band(blank, label, torch.tensor([5]), torch.tensor([4]), 2)
    assert band.begin.tolist() == [[0, 0, 1, 2, 3]]


def test_window_size_grows_only_for_crowded_utterances() -> None:
    lengths = torch.tensor([10, 4]), torch.tensor([3, 8])
    assert feasible_size(2, *lengths, 8) == 3  # 4 frames pass 8 labels in steps of 2
    assert feasible_size(5, *lengths, 8) == 5
    assert feasible_size(50, *lengths, 8) == 9


def test_valid_nodes_of_a_band() -> None:
    band = Band(begin=torch.tensor([[0, 1, 1]]), size=2)
    assert band.indices().tolist() == [[[0, 1], [1, 2], [1, 2]]]
    valid = band.valid_nodes(torch.tensor([2]), torch.tensor([1]))
    assert valid.tolist() == [[[True, True], [True, False], [False, False]]]


def _require(module: str) -> None:
    try:
        __import__(module)
    except (ImportError, OSError) as error:
        pytest.skip(f"{module} is not importable here: {error}")


def test_a_delayed_diagonal_is_the_same_line_later() -> None:
    lens, label_lens = torch.tensor([12, 6]), torch.tensor([3, 5])
    plain = make_diagonal_band(lens, label_lens, 3, num_frames=12, num_labels=5)
    later = make_diagonal_band(lens + 4, label_lens, 3, num_frames=16, num_labels=5, delay=4)
    assert torch.equal(later.begin[:, 4:], plain.begin)
    assert (later.begin[0, :4] == 0).all()
