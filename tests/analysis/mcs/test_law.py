"""The law of MCS between random vectors, against closed forms and samples."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from saejax.analysis.mcs import MaxCosine, random_mcs

KEY = jax.random.key(0)


def dice(seed=0):
    return np.random.default_rng(seed)


# --- the law -----------------------------------------------------------------------------------

SIZES = [(1, 5), (7, 4), (100, 16), (8192, 128), (100, 2), (65536, 4), (65536, 1024)]


def test_in_three_dimensions_a_cosine_is_uniform():
    t = np.linspace(-0.999, 1, 50)
    for M in (1, 2, 65536):
        law = MaxCosine(M, 3)
        np.testing.assert_allclose(law.cdf(t), ((1 + t) / 2) ** M, rtol=1e-9)
        np.testing.assert_allclose(law.pdf(t), M / 2 * ((1 + t) / 2) ** (M - 1), rtol=1e-9)
        np.testing.assert_allclose(law.mean(), (M - 1) / (M + 1), atol=1e-9)


def test_in_two_dimensions_an_angle_is_uniform():
    t = np.linspace(-0.999, 0.999, 50)
    np.testing.assert_allclose(MaxCosine(5, 2).cdf(t), (1 - np.arccos(t) / np.pi) ** 5, rtol=1e-9)
    angle = np.array([1e-4, 1e-3, 0.1, 2.0])
    expected = 65536 * np.log1p(-angle / np.pi)
    np.testing.assert_allclose(MaxCosine(65536, 2).logcdf(np.cos(angle)), expected, rtol=1e-7)


def test_the_law_keeps_its_digits_where_one_cosine_is_almost_surely_below():
    # F rounds to 1 here, its M-th power does not.
    area = integrate.quad(lambda s: (1 - s * s) ** 30, -1, 1)[0]
    above = integrate.quad(lambda s: (1 - s * s) ** 30 / area, 0.9, 1, epsabs=0, epsrel=1e-10)[0]
    assert 1 - above == 1
    np.testing.assert_allclose(MaxCosine(65536, 63).logcdf(0.9), -65536 * above, rtol=1e-8)


@pytest.mark.parametrize("below", [1.0, 0.5])
@pytest.mark.parametrize(("M", "K"), SIZES)
def test_the_density_is_the_derivative_and_has_mass_one(M, K, below):
    law = MaxCosine(M, K, below)
    t = law.ppf(np.linspace(0.05, 0.95, 9))
    np.testing.assert_allclose(law.cdf(t), np.linspace(0.05, 0.95, 9), rtol=1e-7)
    step = 1e-4 * np.min(np.diff(t))
    slope = (law.cdf(t + step) - law.cdf(t - step)) / (2 * step)
    np.testing.assert_allclose(law.pdf(t), slope, rtol=1e-5)
    edges = law.ppf(np.linspace(0.001, 0.999, 12))
    pieces = [integrate.quad(law.pdf, a, b)[0] for a, b in pairwise(edges)]
    np.testing.assert_allclose(sum(pieces), 0.998, rtol=1e-7)


@pytest.mark.parametrize(("M", "K"), [*SIZES, (65536, 2)])
def test_mean_and_mode_are_those_of_the_density(M, K):
    law = MaxCosine(M, K)
    q = (np.arange(100_000) + 0.5) / 100_000
    t = law.ppf(q)
    np.testing.assert_allclose(law.mean(), t.mean(), atol=1e-5)
    if K > 3:
        fine = np.linspace(t[0], t[-1], 20_001)
        best = fine[law.logpdf(fine).argmax()]
        np.testing.assert_allclose(law.mode(), best, atol=fine[1] - fine[0])
    else:
        assert law.mode() == 1


def test_one_cosine_is_integrated_from_its_density_by_hand():
    K, t = 17, np.linspace(-0.99, 0.9, 7)
    area = integrate.quad(lambda s: (1 - s * s) ** 7, -1, 1)[0]
    F = [integrate.quad(lambda s: (1 - s * s) ** 7 / area, -1, x, epsabs=0)[0] for x in t]
    F = np.array(F)
    np.testing.assert_allclose(MaxCosine(1, K).cdf(t), F, rtol=1e-8)
    np.testing.assert_allclose(MaxCosine(30, K).cdf(t), F**30, rtol=1e-6)


def test_the_footnotes_draws_follow_the_law():
    rng, M, K = dice(), 40, 12
    x, y = rng.normal(size=(3000, M)), rng.chisquare(K - 1, size=(3000, M))
    largest = (x / np.sqrt(x**2 + y)).max(1)
    assert stats.kstest(largest, MaxCosine(M, K).cdf).pvalue > 0.05
    assert stats.kstest(largest, MaxCosine(M + 8, K).cdf).pvalue < 1e-6
    cut = largest[largest < 0.6]
    assert stats.kstest(cut, MaxCosine(M, K, 0.6).cdf).pvalue > 0.05
    assert stats.kstest(cut, MaxCosine(M, K).cdf).pvalue < 1e-6


def test_random_dictionaries_follow_the_law():
    found = np.float64(random_mcs(KEY, 2000, 1024, 32))
    assert stats.kstest(found, MaxCosine(1024, 32).cdf).pvalue > 0.05
    assert stats.kstest(found, MaxCosine(2048, 32).cdf).pvalue < 1e-6
    np.testing.assert_array_equal(found, random_mcs(KEY, 2000, 1024, 32))
    assert (found != random_mcs(jax.random.key(1), 2000, 1024, 32)).any()


def test_the_texts_sizes_put_the_random_peak_near_three_tenths():
    assert 0.31 < MaxCosine(8192, 128).mode() < 0.33


def test_the_law_ends_where_its_support_does():
    law = MaxCosine(10, 8, 0.5)
    np.testing.assert_array_equal(law.cdf(np.array([-2.0, -1.0, 0.5, 0.9])), [0, 0, 1, 1])
    np.testing.assert_array_equal(law.pdf(np.array([-1.0, 0.51, 2.0])), 0)
    np.testing.assert_array_equal(law.ppf(np.array([0.0, 1.0])), [-1, 0.5])
    assert MaxCosine(10, 8, 0.1).mode() == 0.1
    assert MaxCosine(10, 3, 0.1).mode() == 0.1
    assert MaxCosine(1, 9).mode() == pytest.approx(0, abs=1e-12)
    assert np.isnan(MaxCosine(1, 3).mode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "M: got 0"),
        ((5, 1), "K: got 1"),
        ((5, 8, -1.0), "below: got -1.0"),
        ((5, 8, 1.5), "below: got 1.5"),
        ((5, 1024, -0.99), "below: got -0.99"),
    ],
)
def test_a_law_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"{message}, allowed"):
        MaxCosine(*arguments)
    with pytest.raises(ValueError, match=r"q: got values from 0\.5 to 2\.0, allowed: from 0 to 1"):
        MaxCosine(5, 8).ppf(np.array([0.5, 2.0]))


# --- learned against random --------------------------------------------------------------------

M, K, N = 256, 48, 300
