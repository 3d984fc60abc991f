"""Latents close to each other: against every pair, one by one."""

import numpy as np
import pytest

from saejax.analysis.mcs import mcs
from saejax.analysis.mcs.dictionaries import BLOCK
from saejax.interpret.relations import elsewhere, most_correlated, neighbours


def rows(n, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def cosine(a, b):
    a, b = np.float64(a), np.float64(b)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / norms if norms else 0.0


def ranked(values, own, positive=False):
    """Numbers and values of all others, the largest first."""
    pairs = [(v, j) for j, v in enumerate(values) if j != own and not (positive and v <= 0)]
    pairs.sort(key=lambda pair: -pair[0])
    return [j for _, j in pairs], [v for v, _ in pairs]


def check(got, values, k, positive=False):
    """Every row of what was found is that of the ranking, with -1 and 0 behind its end."""
    assert got.latents.shape == got.values.shape == (len(values), k)
    assert (got.latents.dtype, got.values.dtype) == (np.int32, np.float32)
    for i, own in enumerate(values):
        latents, best = ranked(own, i, positive)
        missing = max(0, k - len(latents))
        assert got.latents[i].tolist() == latents[:k] + [-1] * missing
        np.testing.assert_allclose(got.values[i], best[:k] + [0] * missing, atol=1e-6)


def correlation_of(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(2 * n, n))
    return np.corrcoef(x.T).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3, 11, 12, 20])
def test_neighbours_are_the_closest_rows_but_the_latent_itself(k):
    W_dec = rows(12) * np.linspace(0.1, 9, 12, dtype=np.float32)[:, None]
    check(neighbours(W_dec, k), [[cosine(a, b) for b in W_dec] for a in W_dec], k)


@pytest.mark.parametrize("k", [1, 3, 11, 12, 20])
def test_the_most_correlated_are_those_with_a_positive_correlation(k):
    correlation = correlation_of(12)
    assert (correlation < 0).any()
    check(most_correlated(correlation, k), correlation, k, positive=True)


def test_more_latents_than_a_block_are_ranked_alike():
    n = BLOCK + 3
    W_dec, correlation = rows(n, d=3), correlation_of(n)
    got, alike = neighbours(W_dec, 2), most_correlated(correlation, 2)
    for i in (0, 1, BLOCK - 1, BLOCK, n - 1):
        values = [cosine(W_dec[i], other) for other in W_dec]
        np.testing.assert_allclose(got.values[i], ranked(values, i)[1][:2], atol=1e-6)
        assert i not in got.latents[i]
        assert alike.latents[i].tolist() == ranked(correlation[i], i)[0][:2]


def test_latents_that_nothing_correlates_with_have_no_related_ones():
    correlation = np.array([[1, 0, -0.5], [0, 0, 0], [-0.5, 0, 1]], np.float32)
    got = most_correlated(correlation, 2)
    assert got.latents.tolist() == [[-1, -1]] * 3
    assert got.values.tolist() == [[0, 0]] * 3


def test_a_row_of_zeros_is_at_right_angles_to_all():
    W_dec = np.array([[1, 0], [0, 0], [-1, 0.1]], np.float32)
    got = neighbours(W_dec, 2)
    assert got.values[1].tolist() == [0, 0]
    assert sorted(got.latents[1].tolist()) == [0, 2]
    assert got.latents[0].tolist() == [1, 2]
    assert np.isfinite(got.values).all()


def test_rows_that_are_equally_close_are_all_found():
    """The copies of a row, in whichever order, and never the latent itself."""
    W_dec = np.repeat(rows(3, seed=5), 3, axis=0)
    got = neighbours(W_dec, 2)
    for i, latents in enumerate(got.latents.tolist()):
        assert sorted([*latents, i]) == [i // 3 * 3 + j for j in range(3)]
    np.testing.assert_allclose(got.values, 1, rtol=1e-6)


def test_no_cosine_is_above_1():
    W_dec = np.repeat(rows(200, d=64, seed=6), 2, axis=0)
    unit = W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True)
    assert (unit @ unit.T).max() > 1
    for values in (neighbours(W_dec, 3).values, elsewhere(W_dec, "other", W_dec).mcs):
        assert values.max() == 1


@pytest.mark.parametrize(("n", "others"), [(7, 1), (7, 20), (BLOCK + 2, 5)])
def test_the_closest_row_elsewhere_has_the_mcs(n, others):
    W_dec, other = rows(n), rows(others, seed=1) * 3
    got = elsewhere(W_dec, "other", other)
    assert got.name == "other"
    np.testing.assert_array_equal(got.mcs, mcs(W_dec, other))
    assert got.latents.shape == (n,)
    for i in range(0, n, max(1, n // 9)):
        values = [cosine(W_dec[i], theirs) for theirs in other]
        assert got.latents[i] == np.argmax(values)
        np.testing.assert_allclose(got.mcs[i], max(values), atol=1e-6)


def test_a_row_of_zeros_has_an_mcs_of_0():
    W_dec = np.array([[0, 0], [1, 1]], np.float32)
    got = elsewhere(W_dec, "other", np.array([[-1, -1], [0, 0]], np.float32))
    assert got.mcs.tolist() == [0, 0]
    assert got.latents[1] == 1
