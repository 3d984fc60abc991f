"""Contexts of latents, in words and in numbers: against loops over rows and tokens."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csc_array

from saejax.interpret.activity import drawn, strongest
from saejax.interpret.contexts import contexts, evidence, histograms, slots, surroundings
from saejax.interpret.dashboard import Group, TextSample

BOUNDS = np.array([0, 3, 4, 10, 18, 24])
N, D_SAE = 24, 6
VOCABULARY = tuple(f"<{i}>" for i in range(50))
SAMPLE = TextSample(np.random.default_rng(0).integers(0, 50, N), BOUNDS, VOCABULARY)


@pytest.fixture(scope="module")
def dense():
    """The last latent never fires, the one before it once."""
    rng = np.random.default_rng(1)
    h = np.maximum(rng.normal(size=(N, D_SAE)), 0).astype(np.float32)
    h[:, -2:] = 0
    h[7, -2] = 2
    return h


@pytest.fixture(scope="module")
def h(dense):
    return csc_array(dense)


def sequence_of(row):
    """First row of a row's sequence, and the one behind its last."""
    return next((a, b) for a, b in pairwise(BOUNDS) if a <= row < b)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 1), (1, 4), (30, 30)])
def test_contexts_are_the_tokens_around_a_row_within_its_sequence(h, dense, before, after):
    for latent in range(D_SAE):
        rows = np.arange(N)
        for row, got in zip(rows, contexts(h, SAMPLE, latent, rows, before, after), strict=True):
            first, last = sequence_of(row)
            shown = [i for i in range(row - before, row + after + 1) if first <= i < last]
            assert got.tokens == tuple(f"<{SAMPLE.tokens[i]}>" for i in shown)
            assert got.activations == tuple(float(dense[i, latent]) for i in shown)
            assert shown[got.at] == row
            assert {type(v) for v in got.activations} == {float}
            assert (type(got.tokens[0]), type(got.at)) == (str, int)


def test_a_context_whose_active_token_is_first_begins_a_sequence(h):
    got = contexts(h, SAMPLE, 0, np.arange(N), 3, 2)
    assert [row for row, own in enumerate(got) if own.at == 0] == BOUNDS[:-1].tolist()


def test_evidence_is_the_strongest_contexts_one_of_each_sequence(h, dense):
    for latent in range(D_SAE):
        best = []
        for first, last in pairwise(BOUNDS):
            row = first + int(np.argmax(dense[first:last, latent]))
            best += [row] if dense[row, latent] > 0 else []
        best.sort(key=lambda row: -dense[row, latent])
        for n in (1, 3, 99):
            got = evidence(h, SAMPLE, latent, n, 2, 3)
            assert got.latent == latent
            assert got.contexts == contexts(h, SAMPLE, latent, np.array(best[:n], int), 2, 3)
    assert evidence(h, SAMPLE, D_SAE - 1, 5, 2, 3).contexts == ()


def test_slots_are_the_strongest_the_intervals_from_above_and_a_draw(h, dense):
    groups, rows = slots(h, SAMPLE, n_top=3, intervals=4, n_interval=2, n_random=5)
    assert groups == (
        Group("strongest activations", 0, 3),
        Group("75 to 100 % of the highest activation", 3, 5),
        Group("50 to 75 % of the highest activation", 5, 7),
        Group("25 to 50 % of the highest activation", 7, 9),
        Group("0 to 25 % of the highest activation", 9, 11),
        Group("random activations", 11, 16),
    )
    assert rows.shape == (D_SAE, 16)
    for latent, own in enumerate(rows):
        parts = [[row for row in own[g.first : g.last].tolist() if row >= 0] for g in groups]
        highest = dense[:, latent].max()
        assert parts[0] == strongest(h, BOUNDS, latent, 3).tolist()
        for part, lowest in zip(parts[1:5], (0.75, 0.5, 0.25, 0), strict=True):
            inside = [
                row
                for row, value in enumerate(dense[:, latent])
                if value > 0 and lowest <= value / highest and value / highest < lowest + 0.25
            ] + ([int(dense[:, latent].argmax())] if lowest == 0.75 and highest > 0 else [])
            assert len(part) == len(set(part)) == min(2, len(inside))
            assert set(part) <= set(inside)
        assert parts[5] == drawn(h, latent, 1, 5)[0].tolist()
        for group, part in zip(groups, parts, strict=True):
            assert own[group.first : group.first + len(part)].tolist() == part
            assert (own[group.first + len(part) : group.last] == -1).all()
    assert (rows[-1] == -1).all()
    assert rows[-2].tolist() == [7, -1, -1, 7, -1, -1, -1, -1, -1, -1, -1, 7, -1, -1, -1, -1]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 1), (5, 7)])
def test_surroundings_are_the_activations_around_every_row(h, dense, before, after):
    rows = np.random.default_rng(3).integers(-1, N, (D_SAE, 9)).astype(np.int32)
    got = surroundings(h, SAMPLE, rows, before, after)
    assert got.shape == (D_SAE, 9, before + 1 + after)
    for latent in range(D_SAE):
        for slot, row in enumerate(rows[latent].tolist()):
            first, last = sequence_of(row) if row >= 0 else (0, 0)
            expected = [
                dense[i, latent] if first <= i < last else 0
                for i in range(row - before, row + after + 1)
            ]
            assert got[latent, slot].tolist() == [float(v) for v in expected]


@pytest.mark.parametrize("bins", [1, 7, 30])
def test_histograms_are_numpys_over_the_activations_above_0(h, dense, bins):
    got = histograms(h, dense.max(0), bins)
    assert got.shape == (D_SAE, bins)
    for own, values in zip(got, dense.T, strict=True):
        active = values[values > 0].astype(np.float64)
        expected = np.histogram(active, bins, (0, active.max()))[0] if active.size else [0] * bins
        assert own.tolist() == list(expected)


def test_histograms_by_hand():
    h = csc_array(np.array([[1, 0], [2, 0], [4, 3], [3.9, 0], [0, 3]], np.float32))
    got = histograms(h, np.array([4, 3], np.float32), 4)
    assert got.tolist() == [[0, 1, 1, 2], [0, 0, 0, 2]]
