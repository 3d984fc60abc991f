"""Synthetic data against its closed forms: NumPy for the algebra, SciPy for the probabilities.

Keys are fixed, so a bound of 5 standard errors either always holds or never does.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from saejax.data.source import as_source
from saejax.data.synthetic import magnitudes, orthogonal, recipe
from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.orthogonal import Orthogonal
from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.data.synthetic.zipf import Zipf, zipf_probabilities

N = 100_000
KEY, BATCH_KEY = jax.random.key(3), jax.random.key(5)
SMALL = {
    "d_in": 4,
    "n_features": 6,
    "avg_active": 2.0,
    "feature_decay": 0.8,
    "copula_rank": 2,
    "copula_strength": 0.8,
}

FEW = {
    "zipf": Zipf(p_max=0.5, p_min=0.1),
    "hierarchy": Hierarchy(roots=1, branching=2, depth=1),
    "magnitudes": Magnitudes(first=3.0, last=2.0),
    "orthogonal": Orthogonal(steps=3, lr=0.01),
    "bias_norm": 0.7,
}
RICH = Synthetic("copula", d_in=4, n_features=6, copula_rank=2, copula_strength=0.8, **FEW)

# Compiling is most of the time of these tests, and fast code gains nothing here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
truth = jit(recipe.truth, static_argnums=0)
codes = jit(recipe.codes, static_argnums=(0, 3))
sample = jit(recipe.sample, static_argnums=(0, 3))


@functools.cache
def draw(spec):
    t = truth(spec, KEY)
    return t, np.asarray(codes(spec, t, BATCH_KEY, N))


def closed_form(spec):
    weights = spec.feature_decay ** np.arange(spec.n_features)
    return spec.avg_active * weights / weights.sum()


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


# --- description -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "gaussian"}, ["kind", "'gaussian'", "uncorrelated, correlated, copula"]),
        ({"d_in": 0}, ["d_in", "0", "1 or more"]),
        ({"n_features": 0}, ["n_features", "0", "1 or more"]),
        ({"copula_rank": -2}, ["copula_rank", "-2", "1 or more"]),
        ({"feature_decay": 0.0}, ["feature_decay", "0.0", "above 0, up to 1"]),
        ({"feature_decay": 1.01}, ["feature_decay", "1.01", "above 0, up to 1"]),
        ({"copula_strength": 1.0}, ["copula_strength", "1.0", "below 1"]),
        ({"copula_strength": -0.1}, ["copula_strength", "-0.1", "from 0"]),
        ({"avg_active": 0.0}, ["avg_active", "0.0", "above 0"]),
        ({"avg_active": float("nan")}, ["avg_active", "nan", "above 0"]),
        ({"bias_norm": 0.0}, ["bias_norm", "0.0", "above 0, or None"]),
        ({"zipf": 0.5}, ["zipf", "0.5", "Zipf(...), or None"]),
        ({"hierarchy": Zipf()}, ["hierarchy", "Zipf", "Hierarchy(...), or None"]),
        ({"magnitudes": True}, ["magnitudes", "True", "Magnitudes(...), or None"]),
        ({"orthogonal": 100}, ["orthogonal", "100", "Orthogonal(...), or None"]),
        ({"hierarchy": Hierarchy(roots=7)}, ["hierarchy", "595 features", "n_features=512"]),
        ({"zipf": Zipf(), "avg_active": 4.0}, ["avg_active", "4.0", "its default 5.0 beside zipf"]),
        (
            {"zipf": Zipf(), "feature_decay": 0.9},
            ["feature_decay", "0.9", "default 0.99 beside zipf"],
        ),
    ],
)
def test_bad_argument_is_named_with_what_is_allowed(unchecked, arguments, words):
    with pytest.raises(ValueError, match=f"^{words[0]}: got") as error:
        Synthetic(**arguments)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("name", ["zipf", "hierarchy", "magnitudes"])
def test_correlated_is_as_published(name):
    with pytest.raises(ValueError, match=rf"^{name}: got .*, allowed: None with kind 'correlated'"):
        Synthetic("correlated", **{name: FEW[name]})


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        (Zipf, {"exponent": 0.0}, "exponent: got 0.0, allowed: above 0"),
        (Zipf, {"p_max": 1.1}, "p_max: got 1.1, allowed: above 0, up to 1"),
        (Zipf, {"p_min": 0.0}, "p_min: got 0.0, allowed: above 0, up to 1"),
        (Zipf, {"p_min": 0.5}, "p_min: got 0.5, allowed: up to p_max=0.4"),
        (Magnitudes, {"first": 0.0}, "first: got 0.0, allowed: above 0"),
        (Magnitudes, {"last": -1.0}, "last: got -1.0, allowed: above 0"),
        (Magnitudes, {"spread_mean": -0.1}, "spread_mean: got -0.1, allowed: 0 or more"),
        (Magnitudes, {"spread_std": "1"}, "spread_std: got '1', allowed: 0 or more"),
        (Orthogonal, {"steps": 0}, "steps: got 0, allowed: a whole number from 1"),
        (Orthogonal, {"lr": 0.0}, "lr: got 0.0, allowed: above 0"),
    ],
)
def test_bad_part_is_named_with_what_is_allowed(unchecked, settings, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        settings(**arguments)


def test_description_can_be_written_down_and_read_back(unchecked):
    described = json.loads(json.dumps(as_source(RICH, 8).describe()))
    assert described.pop("type") == "synthetic"
    assert Synthetic(**described) == RICH
    assert hash(Synthetic(**described)) == hash(RICH)


def test_description_leaves_out_what_is_off():
    assert list(as_source(Synthetic(), 8).describe()) == [
        "type",
        "kind",
        "d_in",
        "n_features",
        "avg_active",
        "feature_decay",
        "copula_strength",
        "copula_rank",
    ]


def test_probability_above_one_names_the_feature_and_the_probability():
    with pytest.raises(ValueError, match=r"got 3\.0, allowed: up to 1\.875 ") as error:
        Synthetic(n_features=4, feature_decay=0.5, avg_active=3.0)
    assert str(error.value).startswith("avg_active:")
    assert str(error.value).endswith("feature 0 would need a firing probability of 1.6")


def test_probability_one_is_allowed_and_always_fires():
    spec = Synthetic(
        "copula", d_in=4, n_features=6, avg_active=6.0, feature_decay=1.0, copula_rank=2
    )
    _, c = draw(spec)
    assert (c > 0).mean() > 0.9999


# --- what has been drawn before is drawn again -------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [
        (
            "uncorrelated",
            [
                [0.03484923, 0, 0.9505785, 0, 0],
                [0.3524696, 0.83695716, 0, 0, 0],
                [0, 0, 0, 0, 0.24787146],
                [0.9222382, 0, 0, 0, 0],
            ],
        ),
        (
            "correlated",
            [
                [0.1726395, 0.5275849, 0, 0, 0],
                [0, 0.39836133, 0, 0, 0],
                [0, 0.9899608, 0, 0, 0.11055065],
                [0, 0.57622147, 0, 0, 0],
            ],
        ),
        (
            "copula",
            [
                [0.25862741, 0, 0, 0, 0],
                [0.53061152, 0.30536914, 0.16685271, 0, 0],
                [0, 0, 0, 0, 0],
                [0.13587487, 0.70061374, 0.81736696, 0, 0],
            ],
        ),
    ],
)
def test_a_key_draws_what_it_always_drew(kind, drawn):
    spec = Synthetic(kind, **SMALL | {"d_in": 3, "n_features": 5})
    t = truth(spec, jax.random.key(11))
    np.testing.assert_allclose(t.F[0], [-0.14636186, -0.27063558, 0.9514907], rtol=1e-5)
    np.testing.assert_allclose(codes(spec, t, jax.random.key(12), 4), drawn, rtol=1e-4)


# --- ground truth ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_unit_rows_shared_by_all_kinds(kind):
    t = truth(Synthetic(kind, **SMALL), KEY)
    np.testing.assert_allclose(np.linalg.norm(np.float64(t.F), axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(t.F, truth(Synthetic("uncorrelated", **SMALL), KEY).F)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_gaussian_vectors_scaled_to_norm_1(kind):
    spec = Synthetic(kind, **SMALL)
    vectors = np.float64(recipe.gaussian_features(spec, KEY))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.ptp(norms) > 0.1
    np.testing.assert_allclose(truth(spec, KEY).F, vectors / norms, atol=1e-6)


def test_gaussian_features_are_standard_normal():
    vectors = recipe.gaussian_features(Synthetic(d_in=20, n_features=100), KEY)
    assert stats.kstest(np.ravel(vectors), stats.norm.cdf).pvalue > 1e-3


def test_features_point_everywhere():
    F = np.float64(truth(Synthetic(d_in=3, n_features=2000, avg_active=1.0), KEY).F)
    # A Gaussian direction in three dimensions has coordinates uniform in [-1, 1] (Archimedes).
    for coordinate in F.T:
        assert stats.kstest(coordinate, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("decay", [0.99, 0.7, 1.0])
def test_firing_probabilities_are_the_scaled_powers(decay):
    spec = Synthetic(n_features=30, avg_active=1.5, feature_decay=decay)
    p = np.float64(recipe.firing_probabilities(spec))
    np.testing.assert_allclose(p, closed_form(spec), rtol=1e-5)
    np.testing.assert_allclose(p.sum(), 1.5, rtol=1e-5)
    np.testing.assert_allclose(truth(spec, KEY).p, p, rtol=1e-6)
    np.testing.assert_allclose(recipe.firing_rates(spec), p, rtol=1e-6)
    assert recipe.mean_active(spec) == pytest.approx(1.5)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_zipf_is_the_power_law_between_its_ends(exponent):
    weights = np.arange(1, 41) ** -exponent
    expected = 0.01 + 0.29 * (weights - weights[-1]) / (weights[0] - weights[-1])
    got = np.float64(zipf_probabilities(Zipf(exponent, 0.3, 0.01), 40))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    spec = Synthetic(n_features=40, zipf=Zipf(exponent, 0.3, 0.01))
    np.testing.assert_allclose(truth(spec, KEY).p, expected, rtol=1e-5)
    assert recipe.mean_active(spec) == pytest.approx(expected.sum(), rel=1e-5)


def test_zipf_of_one_feature_and_of_one_probability():
    np.testing.assert_allclose(zipf_probabilities(Zipf(), 1), [0.4], rtol=1e-6)
    np.testing.assert_allclose(zipf_probabilities(Zipf(p_max=0.2, p_min=0.2), 3), 0.2, rtol=1e-6)


def test_overlap_gradient_is_that_of_the_overlaps():
    F = recipe.gaussian_features(Synthetic(d_in=4, n_features=7, avg_active=1.0), KEY)

    def loss(F):
        overlaps = F @ F.T
        lengths = jnp.diag(overlaps)
        return (overlaps**2).sum() - (lengths**2).sum() + 7 * ((lengths - 1) ** 2).sum()

    np.testing.assert_allclose(orthogonal.overlap_gradient(F), jax.grad(loss)(F), rtol=1e-4)


def test_features_that_were_moved_apart_overlap_less_and_have_norm_1():
    spec = Synthetic(d_in=8, n_features=12, avg_active=1.0)
    apart = dataclasses.replace(spec, orthogonal=Orthogonal(steps=50, lr=0.01))
    F, moved = (np.float64(truth(s, KEY).F) for s in (spec, apart))

    def overlap(F):
        return ((F @ F.T)[~np.eye(12, dtype=bool)] ** 2).sum()

    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1.0, atol=1e-6)
    # The least that 12 unit vectors in 8 dimensions can have is n^2 / d - n (Welch).
    assert 144 / 8 - 12 - 1e-6 < overlap(moved) < 0.6 * overlap(F)
    # Moved, not drawn anew.
    assert (np.sum(F * moved, 1) > 0.7).all()


def test_parts_draw_from_keys_of_their_own():
    plain, rich = truth(Synthetic("copula", **SMALL), KEY), truth(RICH, KEY)
    np.testing.assert_array_equal(plain.mixing, rich.mixing)
    np.testing.assert_array_equal(plain.F, truth(dataclasses.replace(RICH, orthogonal=None), KEY).F)
    assert plain.spread is None
    assert plain.bias is None
    np.testing.assert_allclose(np.linalg.norm(rich.bias), 0.7, rtol=1e-6)
    normal = np.float64(rich.spread - 0.5) / 0.5
    assert abs(np.corrcoef(normal[:4], rich.bias)[0, 1]) < 0.999
    assert np.abs(plain.F @ rich.bias / 0.7).max() < 0.999


def test_bias_points_anywhere_and_depends_on_the_key():
    spec = Synthetic(d_in=3, n_features=4, avg_active=1.0, bias_norm=2.0)
    bias = np.float64(
        jit(jax.vmap(lambda k: recipe.truth(spec, k).bias))(jax.random.split(KEY, 2000))
    )
    for coordinate in bias.T:
        assert stats.kstest(coordinate / 2, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("n", [1, 12, 40])
def test_mixing_is_a_root_of_the_shifted_uniform_matrix(n):
    t = truth(Synthetic("correlated", n_features=n, avg_active=0.5), KEY)
    u = np.float64(jax.random.uniform(jax.random.split(KEY)[1], (n, n)))
    A = (u + u.T) / 2
    lowest = np.linalg.eigvalsh(A)[0]
    assert (lowest < 0) == (n > 1), "the cases must cover both branches"
    expected = A + (1.001 * abs(lowest) * np.eye(n) if lowest < 0 else 0)
    M = np.float64(t.mixing)
    np.testing.assert_allclose(M @ M.T, expected, atol=2e-5)


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
