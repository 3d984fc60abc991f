"""Shares of high MCS and their correlations, by hand and against SciPy."""

import jax
import numpy as np
import pytest
from scipy import stats

from saejax.analysis import mcs
from saejax.core.stats import bootstrapped

KEY = jax.random.key(0)


def dice(seed=0):
    return np.random.default_rng(seed)


# --- shares and correlations -------------------------------------------------------------------


def test_shares_of_high_mcs_by_hand():
    scores = np.array([[0.5, 0.49, 0.9, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    found = mcs.split(scores)
    np.testing.assert_array_equal(found.high, [2, 0])
    np.testing.assert_array_equal(found.low, [2, 4])
    np.testing.assert_array_equal(found.high_share, [0.5, 0])
    z, n = stats.norm.ppf(0.975), 4
    for p, low, high in zip([0.5, 0], found.high_share_from, found.high_share_to, strict=True):
        half = z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
        ends = (p + z**2 / 2 / n + half * np.array([-1, 1])) / (1 + z**2 / n)
        np.testing.assert_allclose([low, high], ends, atol=1e-12)


def test_shares_of_what_is_not_finite_are_refused():
    with pytest.raises(
        ValueError, match=r"mcs: got shape \(2,\) with 1 entries that are not finite"
    ):
        mcs.split(np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match=r"mcs: got shape \(0,\)"):
        mcs.split(np.zeros(0))
    with pytest.raises(ValueError, match=r"cutoff: got 2\.0"):
        mcs.split(np.zeros(1), 2.0)


def test_correlations_are_scipys_with_ties():
    x = np.round(dice().normal(size=80), 1)
    y = np.round(x + dice(1).normal(size=80), 1)
    found = mcs.correlation(x, y, KEY, 2000)
    np.testing.assert_allclose(found.pearson.value, stats.pearsonr(x, y).statistic, rtol=1e-12)
    np.testing.assert_allclose(found.spearman.value, stats.spearmanr(x, y).statistic, rtol=1e-12)
    assert found.n == 80
    for interval, statistic in ((found.pearson, stats.pearsonr), (found.spearman, stats.spearmanr)):
        theirs = stats.bootstrap(
            (x, y),
            lambda a, b, s=statistic: s(a, b).statistic,
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=500,
            random_state=0,
        ).confidence_interval
        np.testing.assert_allclose(interval[1:], theirs, atol=0.04)


def test_a_flat_line_has_no_correlation(unchecked):
    found = mcs.correlation(np.full(9, 0.1), np.arange(9.0), KEY, 10)
    assert np.isnan([*found.pearson, *found.spearman]).all()
    with pytest.raises(ValueError, match="y: got 2 values, allowed: 3, as x has"):
        mcs.correlation(np.zeros(3), np.zeros(2), KEY)


def test_flat_resamples_are_left_out_of_an_interval():
    found = mcs.correlation(np.arange(3.0), np.array([0.0, 1, 2]), KEY, 500)
    np.testing.assert_allclose(found.pearson, 1, atol=1e-12)


def test_the_median_of_resamples_is_known_for_zeros_and_ones():
    # Of five draws the median is 1 where three or more are.
    x = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    tail = stats.binom.sf(2, 5, 0.4)
    for level, low, high in ((1 - 2.2 * tail, 0, 0), (1 - 1.8 * tail, 0, 1)):
        assert bootstrapped(np.median, (x,), KEY, 20_000, level) == (0, low, high)
