"""MCS against loops over all pairs of vectors."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.analysis import mcs
from saejax.core.linalg import cosines
from saejax.metrics import measures


def dice(seed=0):
    return np.random.default_rng(seed)


def rows(*shape, seed=0):
    return dice(seed).normal(size=shape).astype(np.float32)


def table(G, D):
    """All cosines in float64."""
    G, D = (a / np.linalg.norm(a, axis=1)[:, None] for a in (np.float64(G), np.float64(D)))
    return G @ D.T


# --- MCS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 1030])
def test_mcs_in_blocks_is_the_largest_of_all_cosines(n):
    G, D = rows(n, 4), 5 * rows(7, 4, seed=1)
    found = mcs.mcs(G, D)
    np.testing.assert_allclose(found, table(G, D).max(1), atol=1e-6)
    mmcs = jax.jit(measures.mmcs)(jnp.array(G), jnp.array(D))
    np.testing.assert_allclose(found.mean(), mmcs, atol=1e-6)


def test_mcs_stays_within_one_and_a_row_of_zeros_has_none():
    G = rows(500, 128)
    best = cosines(jnp.array(G), jnp.array(G)).max(-1)
    assert float(best.max()) > 1, "rounding must matter"
    assert mcs.mcs(G, G).max() == 1
    assert (mcs.mcs(np.zeros((2, 128), np.float32), G) == 0).all()


def test_two_wide_dictionaries_never_need_all_their_cosines_at_once():
    G, D = rows(4096, 16), rows(8192, 16, seed=1)
    tracemalloc.start()
    mcs.mcs(G, D)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # all would be 134 MB


def test_a_run_has_every_larger_dictionary_and_every_other_seed():
    dictionaries = [rows(3, n, 4, seed=n) for n in (2, 3, 6)]
    run = mcs.mcs_of_run(dictionaries)
    assert list(run.to_larger) == [(2, 3), (2, 6), (3, 6)]
    sized = {D.shape[1]: D for D in dictionaries}
    for (n, m), found in run.to_larger.items():
        expected = [table(sized[n][s], sized[m][s]).max(1) for s in range(3)]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for n, found in run.to_other_seeds.items():
        D = sized[n]
        others = [[table(D[s], D[o]).max(1) for o in range(3) if o != s] for s in range(3)]
        np.testing.assert_allclose(found, others, atol=1e-6)


def test_a_run_of_one_seed_has_no_other():
    run = mcs.mcs_of_run([rows(1, 2, 4), rows(1, 3, 4)])
    assert run.to_larger[2, 3].shape == (1, 2)
    assert run.to_other_seeds[3].shape == (1, 0, 3)


@pytest.mark.parametrize(
    ("dictionaries", "allowed"),
    [
        ([], "got none"),
        ([rows(1, 3, 4), rows(1, 3, 4)], r"got sizes \[3, 3\], allowed: rising"),
        ([rows(1, 3, 4), rows(2, 5, 4)], "same seeds and d_in"),
        ([rows(1, 3, 4), rows(1, 5, 3)], "same seeds and d_in"),
        ([rows(2, 3, 4) * [[[1]], [[np.nan]]]], "got 12 .* d_sae 3, seed number 1"),
    ],
)
def test_a_run_that_does_not_fit_together_is_refused(dictionaries, allowed):
    with pytest.raises(ValueError, match=f"dictionaries: {allowed}|dictionaries: .*{allowed}"):
        mcs.mcs_of_run(dictionaries)
