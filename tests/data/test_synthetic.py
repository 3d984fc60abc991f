"""The description of synthetic data and its features, against closed forms.

Keys are fixed, so a bound of 5 standard errors either always holds or never does."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import FEW, KEY, RICH, SMALL, closed_form, codes, draw, jit, truth
from scipy import stats

from saejax.data.source import as_source
from saejax.data.synthetic import orthogonal, recipe
from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.orthogonal import Orthogonal
from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.data.synthetic.zipf import Zipf, zipf_probabilities

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
