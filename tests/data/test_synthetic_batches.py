"""Batches of synthetic data against their closed forms: which features fire, and how strongly.

Keys are fixed, so a bound of 5 standard errors either always holds or never does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import BATCH_KEY, KEY, RICH, SMALL, N, closed_form, codes, draw, jit, truth
from scipy import stats

from saejax.data.source import as_source
from saejax.data.synthetic import magnitudes, recipe
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.recipe import KINDS, Synthetic

sample = jit(recipe.sample, static_argnums=(0, 3))


def assert_rates(fired, n, p):
    """Counts of n Bernoulli(p) trials, each within 5 standard errors (and a count, for p = 1)."""
    off = np.abs(np.asarray(fired) - n * p)
    assert (off < 5 * np.sqrt(n * p * (1 - p)) + 1.5).all(), (fired, n * p)


def pairs(fires):
    """Of all pairs i < j: how often both fired, and the two indices."""
    i, j = np.triu_indices(fires.shape[1], 1)
    return (fires[:, i] & fires[:, j]).sum(0), i, j


@jit
def normals(keys):
    """The normal draw of each `correlated` batch."""

    def one(key):
        k_fires, _ = jax.random.split(key)
        k_common, *_ = jax.random.split(k_fires, 3)
        return jax.random.normal(k_common, (6, 1))[:, 0]

    return jax.vmap(one)(keys)


def batch_probabilities(spec, t, keys):
    """Firing probabilities of each `correlated` batch, from the same normal draws, by SciPy."""
    z = np.float64(normals(keys)) @ np.float64(t.mixing).T
    weights = stats.norm.cdf(z) * spec.feature_decay ** np.arange(spec.n_features)
    return np.minimum(spec.avg_active * weights / weights.sum(1, keepdims=True), 1.0)


# --- all samplers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uncorrelated", "copula"])
def test_each_feature_fires_at_its_probability(kind):
    spec = Synthetic(kind, **SMALL)
    _, c = draw(spec)
    assert_rates((c > 0).sum(0), N, closed_form(spec))


@pytest.mark.parametrize("kind", KINDS)
def test_strengths_of_each_feature_are_uniform(kind):
    _, c = draw(Synthetic(kind, **SMALL))
    assert ((c >= 0) & (c <= 1)).all()
    for feature in np.float64(c.T):
        strengths = feature[(feature > 0) & (feature < 1)]
        assert stats.kstest(strengths, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_strengths_of_two_features_are_independent(kind):
    _, c = draw(Synthetic(kind, **SMALL))
    both = c[(c[:, 0] > 0) & (c[:, 1] > 0)]
    assert stats.spearmanr(both[:, 0], both[:, 1]).pvalue > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_sample_is_codes_times_features(kind):
    spec = Synthetic(kind, **SMALL)
    t, key = truth(spec, KEY), jax.random.key(8)
    c, F = np.float64(codes(spec, t, key, 50)), np.float64(t.F)
    expected = np.array([sum(c[b, i] * F[i] for i in range(6)) for b in range(50)])
    np.testing.assert_allclose(sample(spec, t, key, 50), expected, atol=1e-6)


def test_source_gives_the_codes_behind_its_samples():
    source, key = as_source(RICH, 8), jax.random.key(8)
    arrays = jit(source.setup)(KEY)
    c = np.float64(jit(source.codes, static_argnums=3)(source.shared, arrays, key, 50))
    np.testing.assert_array_equal(c, codes(RICH, arrays, key, 50))
    expected = c @ np.float64(source.features(arrays)) + np.float64(arrays.bias)
    x = jit(source.sample, static_argnums=3)(source.shared, arrays, key, 50)
    np.testing.assert_allclose(x, expected, atol=1e-5)


@pytest.mark.parametrize("data", [np.ones((3, 4)), lambda key: jnp.ones((8, 4))])
def test_data_without_true_features_have_no_codes(data):
    source = as_source(data, 8)
    assert source.codes(source.shared, source.setup(KEY), BATCH_KEY, 8) is None


@pytest.mark.parametrize("kind", KINDS)
def test_key_decides_the_batch(kind):
    spec = Synthetic(kind, **SMALL)
    t = truth(spec, KEY)
    a, again, other = (codes(spec, t, jax.random.key(k), 50) for k in (1, 1, 2))
    np.testing.assert_array_equal(a, again)
    assert (np.asarray(a) != np.asarray(other)).any()
    assert (np.asarray(truth(spec, jax.random.key(9)).F) != np.asarray(t.F)).any()


@pytest.mark.parametrize("spec", [Synthetic(kind, **SMALL) for kind in KINDS] + [RICH])
def test_vmap_changes_nothing(spec):
    keys = jax.random.split(KEY, 3)

    @jit
    @jax.vmap
    def mapped(key):
        t = recipe.truth(spec, key)
        return t, recipe.sample(spec, t, key, 50)

    truths, batches = jax.tree.map(np.asarray, mapped(keys))
    for i, key in enumerate(keys):
        t = truth(spec, key)
        np.testing.assert_allclose(truths.F[i], t.F, atol=1e-6)
        np.testing.assert_allclose(truths.p[i], t.p, atol=1e-6)
        np.testing.assert_allclose(truths.mixing[i], t.mixing, atol=1e-4)
        np.testing.assert_allclose(batches[i], sample(spec, t, key, 50), atol=1e-5)


def test_jit_changes_nothing():
    spec = Synthetic("uncorrelated", **SMALL)
    t = recipe.truth(spec, KEY)
    x = recipe.sample(spec, t, BATCH_KEY, 50)
    np.testing.assert_allclose(x, sample(spec, t, BATCH_KEY, 50), atol=1e-6)


# --- magnitudes --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uncorrelated", "copula"])
def test_magnitudes_are_normal_around_the_means_with_the_spreads(kind):
    m = Magnitudes(first=5.0, last=4.0, spread_mean=0.6, spread_std=0.1)
    t, c = draw(Synthetic(kind, **SMALL, magnitudes=m))
    for feature, mean, spread in zip(np.float64(c.T), np.linspace(5, 4, 6), t.spread, strict=True):
        strengths = feature[feature > 0]
        assert stats.kstest(strengths, stats.norm(mean, float(spread)).cdf).pvalue > 1e-3


def test_magnitudes_leave_alone_who_fires():
    strong = Synthetic("copula", **SMALL, magnitudes=Magnitudes(spread_std=0.0))
    plain = Synthetic("copula", **SMALL)
    np.testing.assert_array_equal(draw(plain)[1] > 0, draw(strong)[1] > 0)


def test_spreads_are_folded_normal():
    m = Magnitudes(spread_mean=0.5, spread_std=0.5)
    spread = np.float64(magnitudes.spreads(m, 5000, KEY))
    assert stats.kstest(spread, stats.foldnorm(1.0, scale=0.5).cdf).pvalue > 1e-3


def test_magnitudes_below_zero_are_rectified_and_the_ends_are_finite():
    u = jnp.array([[0.0, 0.01, 0.5, 1.0]]).T
    got = np.float64(magnitudes.strengths(Magnitudes(first=1.0), jnp.array([1.0]), u))[:, 0]
    np.testing.assert_allclose(got[:3], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(got[3], 1 + stats.norm.ppf(1 - 2.0**-24), rtol=1e-3)
    steady = magnitudes.strengths(Magnitudes(first=1.0), jnp.array([0.0]), u)
    np.testing.assert_allclose(steady, 1.0)


# --- uncorrelated ------------------------------------------------------------------------------


def test_uncorrelated_pairs_fire_independently():
    spec = Synthetic("uncorrelated", **SMALL)
    _, c = draw(spec)
    both, i, j = pairs(c > 0)
    p = closed_form(spec)
    assert_rates(both, N, p[i] * p[j])


# --- correlated --------------------------------------------------------------------------------


def test_correlated_rates_within_a_batch_are_those_of_its_draw():
    spec = Synthetic("correlated", **SMALL)
    t, keys = truth(spec, KEY), jax.random.split(BATCH_KEY, 4)
    probabilities = batch_probabilities(spec, t, keys)
    assert np.ptp(probabilities, axis=0).max() > 0.2, "batches differ, or the test shows nothing"
    for key, p in zip(keys, probabilities, strict=True):
        c = np.asarray(codes(spec, t, key, N))
        fires = (c > 0) & (c < 1)
        assert_rates(fires.sum(0), N, p)
        both, i, j = pairs(fires)
        assert_rates(both, N, p[i] * p[j])


def test_correlated_mean_over_batches_is_avg_active_plus_fill():
    spec = Synthetic("correlated", **SMALL | {"avg_active": 1.0})
    t, keys = truth(spec, KEY), jax.random.split(BATCH_KEY, 400)
    c = np.asarray(jit(jax.vmap(lambda k: recipe.codes(spec, t, k, 50)))(keys))
    filled, n = (c == 1).any(-1), 400 * 50
    # The variance of a sum of Bernoullis is at most its mean.
    assert abs((c > 0)[~filled].sum() / n - 1.0) < 5 * np.sqrt(1.0 / n)
    empty = np.prod(1 - batch_probabilities(spec, t, keys), axis=1)
    assert abs(filled.mean() - empty.mean()) < 5 * np.sqrt((empty * (1 - empty)).mean() / n)


def test_correlated_empty_row_gets_one_feature_of_strength_one():
    spec = Synthetic("correlated", **SMALL)
    t, c = draw(spec)
    active, filled = (c > 0).sum(1), (c == 1).any(1)
    assert active.min() == 1
    assert (active[filled] == 1).all()
    p = batch_probabilities(spec, t, BATCH_KEY[None])[0]
    assert_rates(filled.sum(), N, np.prod(1 - p))
    assert stats.chisquare((c[filled] == 1).sum(0)).pvalue > 1e-3


def test_correlated_feature_that_would_need_more_than_one_always_fires():
    spec = Synthetic("correlated", **SMALL)
    t, keys = truth(spec, KEY), jax.random.split(BATCH_KEY, 4)
    certain = np.argwhere(batch_probabilities(spec, t, keys) == 1)
    assert len(certain)
    for batch, feature in certain:
        c = np.float64(codes(spec, t, keys[batch], N))[:, feature]
        assert (c > 0).sum() > N - 2
        assert stats.kstest(c, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["uncorrelated", "copula"])
def test_other_kinds_leave_empty_rows_empty(kind):
    _, c = draw(Synthetic(kind, **SMALL))
    assert (c == 0).all(1).any()
    assert (c < 1).all()


# --- copula ------------------------------------------------------------------------------------


def copula_correlation(spec, t):
    """Correlation matrix of the copula's latent Gaussian, with unit diagonal."""
    W, share = np.float64(t.mixing), spec.copula_strength
    return share * W @ W.T + (1 - share) * np.eye(len(W))


def test_copula_pairs_fire_with_the_bivariate_normal_probability():
    spec = Synthetic("copula", **SMALL)
    t, c = draw(spec)
    C = copula_correlation(spec, t)
    both, i, j = pairs(c > 0)
    bound = stats.norm.ppf(closed_form(spec))
    expected = [
        stats.multivariate_normal.cdf([bound[a], bound[b]], cov=[[1, C[a, b]], [C[a, b], 1]])
        for a, b in zip(i, j, strict=True)
    ]
    assert C[i, j].min() < -0.2
    assert C[i, j].max() > 0.2
    assert_rates(both, N, np.array(expected))


def test_copula_correlation_has_the_root_mean_square_of_drawn_loadings():
    n, rank, scale = 400, 25, 0.1
    spec = Synthetic("copula", n_features=n, copula_rank=rank, copula_strength=rank * scale**2)
    loadings = np.random.default_rng(0).normal(0, scale, (n, rank))
    others = ~np.eye(n, dtype=bool)
    here = copula_correlation(spec, truth(spec, KEY))[others]
    there = (loadings @ loadings.T)[others]
    for correlation in (here, there):
        np.testing.assert_allclose(np.sqrt((correlation**2).mean()), 0.05, rtol=0.05)
    np.testing.assert_allclose((loadings**2).sum(1).mean(), 0.25, rtol=0.05)


def test_copula_of_strength_zero_is_independent():
    spec = Synthetic("copula", **SMALL | {"copula_strength": 0.0})
    t, c = draw(spec)
    np.testing.assert_array_equal(copula_correlation(spec, t), jnp.eye(6))
    both, i, j = pairs(c > 0)
    p = closed_form(spec)
    assert_rates(both, N, p[i] * p[j])
