"""Baselines on the data of a sweep: the same samples and features, and scores by hand and by
SciPy."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from saejax import Params, Result, Settings, Sweep, Synthetic
from saejax.analysis import baseline_fits
from saejax.analysis.baseline_fits import Comparison, compare, measure, of_saes, rarity_correlation
from saejax.analysis.baselines import Fit
from saejax.data.synthetic.recipe import Truth
from saejax.training.batches import draw, features
from saejax.training.planning import make_plan
from saejax.training.state import start

BATCH = 6
SPEC = Synthetic("correlated", d_in=3, n_features=5, avg_active=1.5)
# The largest seed does not fit into a signed 32-bit number.
SEEDS = (4, 2**32 - 1)


# ---------------------------------------------------------------------------------------- data


@pytest.fixture(scope="module")
def trained_on():
    """The first three batches of every seed of a sweep, and its features."""
    plan = make_plan(Sweep(seeds=SEEDS, ratio=1, l1=0.1), SPEC, Settings(batch_size=BATCH))
    _, inputs = start(plan)
    one = jax.jit(partial(draw, plan.program, inputs, "batches"))
    batches = [one(jnp.int32(step)) for step in range(3)]
    return np.concatenate(batches, axis=1), np.asarray(features(plan.program, inputs))


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_and_features_are_those_of_a_sweep_with_that_seed(trained_on, seed):
    x, F = (a[SEEDS.index(seed)] for a in trained_on)
    got = baseline_fits.samples_of(SPEC, seed, 3 * BATCH, BATCH)
    np.testing.assert_allclose(got, x, atol=1e-6)
    np.testing.assert_allclose(baseline_fits.truth_of(SPEC, seed).F, F, atol=1e-6)
    assert np.abs(trained_on[1][0] - trained_on[1][1]).max() > 0.1


@pytest.mark.parametrize("n", [1, BATCH, BATCH + 1, 3 * BATCH - 1])
def test_the_last_batch_is_cut(n):
    whole = baseline_fits.samples_of(SPEC, 4, 3 * BATCH, BATCH)
    got = baseline_fits.samples_of(SPEC, 4, n, BATCH)
    assert got.shape == (n, 3)
    np.testing.assert_array_equal(got, whole[:n])


def test_samples_are_their_codes_times_the_features():
    n = 2 * BATCH + 2
    codes = baseline_fits.codes_of(SPEC, 4, n, BATCH)
    F = np.float64(baseline_fits.truth_of(SPEC, 4).F)
    assert codes.shape == (n, 5)
    assert (codes > 0).any(1).all()
    np.testing.assert_allclose(codes @ F, baseline_fits.samples_of(SPEC, 4, n, BATCH), atol=1e-6)


# ---------------------------------------------------------------------------------------- measure

P = np.array([0.5, 0.4, 0.3, 0.2], np.float32)
X = np.zeros((7, 3), np.float32)


def truth(F, p=P):
    return Truth(F=jnp.array(F, jnp.float32), p=jnp.array(p), mixing=jnp.zeros((len(p), 0)))


def stub(monkeypatch, dictionary, message=""):
    """Puts a fit in the place of any method's; returns what it was asked for."""
    asked = []
    dictionary = np.asarray(dictionary, np.float32)

    def fit(method, x, n_components, seed=0, max_iter=None):
        asked.append((method, x, n_components, seed, max_iter))
        return Fit(dictionary, False, 17 if len(dictionary) else None, message)

    monkeypatch.setattr("saejax.analysis.baselines.fit", fit)
    return asked


def test_scores_are_the_cosines_by_hand(monkeypatch):
    F = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]]
    asked = stub(monkeypatch, [[2.0, 0, 0], [0, -3, 0], [0, -3, 4]], "stopped early")
    row, best = measure("ica", X, truth(F), 5, max_iter=9)
    # Of the four features with the directions (1, 0, 0), (0, -1, 0) and (0, -0.6, 0.8).
    np.testing.assert_allclose(best, [1, 0, 0.8, 0.6], atol=1e-6)
    assert row.pop("seconds") >= 0
    assert row.pop("mmcs") == pytest.approx(2.4 / 4, abs=1e-6)
    assert row.pop("mmcs_either_sign") == pytest.approx((1 + 1 + 0.8 + 0.8) / 4, abs=1e-6)
    # Ranks by falling probability are 1 2 3 4, and of the cosines 1 4 2 3: 1 - 6 * 6 / (4 * 15).
    assert row.pop("rarity_correlation") == pytest.approx(0.4, abs=1e-6)
    assert row == {
        "method": "ica",
        "n_samples": 7,
        "seed": 5,
        "converged": False,
        "iterations": 17,
        "message": "stopped early",
    }
    ((method, x, n_components, seed, max_iter),) = asked
    assert (method, n_components, seed, max_iter) == ("ica", 4, 5, 9)
    assert x is X


def test_scores_of_many_random_directions(monkeypatch):
    rng = np.random.default_rng(0)
    F, D = rng.normal(size=(6, 3)), rng.normal(size=(9, 3))
    F /= np.linalg.norm(F, axis=1, keepdims=True)
    p = rng.uniform(size=6).astype(np.float32)
    stub(monkeypatch, D)
    row, best = measure("kmeans", X, truth(F, p), 0)
    cosine = F @ (D / np.linalg.norm(D, axis=1, keepdims=True)).T
    np.testing.assert_allclose(best, cosine.max(1), atol=1e-6)
    expected = (
        cosine.max(1).mean(),
        np.abs(cosine).max(1).mean(),
        spearmanr(p, cosine.max(1)).statistic,
    )  # pyright: ignore
    assert (row["mmcs"], row["mmcs_either_sign"], row["rarity_correlation"]) == pytest.approx(
        expected, abs=1e-6
    )


def test_a_fit_that_failed_is_recorded_without_scores(monkeypatch):
    stub(monkeypatch, np.zeros((0, 3)), "all samples are equal")
    row, best = measure("ica", X, truth(np.eye(4, 3)), 5)
    np.testing.assert_array_equal(best, np.full(4, np.nan))
    for name in ("mmcs", "mmcs_either_sign", "rarity_correlation"):
        assert np.isnan(row[name]), name
    assert (row["method"], row["converged"], row["iterations"]) == ("ica", False, None)
    assert row["message"] == "all samples are equal"


def test_a_method_that_is_really_fitted_finds_axes_of_variance():
    x = np.diag([5.0, 2, 1]) @ np.array(
        [[1.0, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 1, -1]]
    )
    row, best = measure(
        "pca", x.T.astype(np.float32), truth([[1.0, 0, 0], [0, -1, 0], [0, 0.6, 0.8]], P[:3]), 0
    )
    np.testing.assert_allclose(best, [1, 0, 0.8], atol=1e-6)
    assert row["mmcs_either_sign"] == pytest.approx((1 + 1 + 0.8) / 3, abs=1e-6)
    assert row["converged"]


def test_rarity_correlation_is_spearmans():
    rng = np.random.default_rng(1)
    p, best = rng.uniform(size=(2, 12)).astype(np.float32)
    p[3] = p[5]
    assert rarity_correlation(p, best) == pytest.approx(spearmanr(p, best).statistic, rel=1e-9)  # pyright: ignore
    assert rarity_correlation(p, p**3) == pytest.approx(1)
    assert rarity_correlation(p, -p) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("p", "best"),
    [
        (np.full(4, 0.3), np.arange(4.0)),
        (np.arange(4.0), np.full(4, 0.7)),
        (np.arange(4.0), np.array([0.1, 0.2, np.nan, 0.4])),
        (np.arange(4.0), np.full(4, np.nan)),
        (np.ones(1), np.ones(1)),
    ],
    ids=[
        "equal probabilities",
        "equal cosines",
        "one is missing",
        "all are missing",
        "one feature",
    ],
)
def test_rarity_correlation_is_nan_where_there_is_no_order(p, best, recwarn):
    assert np.isnan(rarity_correlation(p, best))
    assert not recwarn.list


# ---------------------------------------------------------------------------------------- compare


@pytest.mark.parametrize(
    ("methods", "sizes", "kmeans_sizes"),
    [
        (("kmeans", "pca"), (8, 5), (12, 5)),
        (("pca", "ica"), (8,), (12,)),
        (("kmeans",), (5,), ()),
        (("kmeans", "pca"), (5, 5), (5, 12, 12)),
    ],
)
def test_a_comparison_makes_the_fits_that_it_announces(monkeypatch, methods, sizes, kmeans_sizes):
    asked = stub(monkeypatch, np.eye(3))
    specs = {"a": SPEC, "b": replace(SPEC, kind="uncorrelated")}
    plan = Comparison(specs, methods, (4, 0), sizes, kmeans_sizes, BATCH)
    rows = [found.row for found in compare(plan)]
    expected = {
        (name, method, seed, n)
        for name in specs
        for method in methods
        for seed in (4, 0)
        for n in {*sizes, *(kmeans_sizes if method == "kmeans" else ())}
    }
    got = [(row["dataset"], row["method"], row["seed"], row["n_samples"]) for row in rows]
    assert plan.n_fits == len(got) == len(expected) == len(asked)
    assert set(got) == expected
    ordered = [n for *_, n in got]
    assert ordered == sorted(ordered)
    for (dataset, method, seed, n), (fitted, x, n_components, fitted_seed, _) in zip(
        got, asked, strict=True
    ):
        assert (method, seed, 5) == (fitted, fitted_seed, n_components)
        np.testing.assert_array_equal(x, baseline_fits.samples_of(specs[dataset], seed, n, BATCH))


# ---------------------------------------------------------------------------------------- SAEs

N_FEATURES = 5


def grid(**axes):
    """A result with invented MMCS and cosines of two data sets, three seeds."""
    specs = {"a": SPEC, "b": replace(SPEC, kind="uncorrelated")}
    settings = Settings(steps=20, eval_every=10)
    axes = {"l1": (0.1, 0.01), "ratio": (2, 1), "seeds": (0, 1, 2), **axes}
    plan = make_plan(Sweep(**axes), specs, settings)
    rng = np.random.default_rng(0)
    history = {
        "mmcs_true_to_dict": rng.uniform(size=(2, *plan.shape)),
        "frozen_at": np.full((2, *plan.shape), -1),
    }
    weights = Params(np.zeros((3, 5)), np.zeros(5), np.zeros((5, 3)))  # pyright: ignore
    return Result(
        coords=plan.coords,
        d_sae=plan.d_sae,
        run=plan.describe(),
        steps=np.array([10, 20]),
        history=history,
        final={name: a[-1] for name, a in history.items()},
        best_index=None,
        best_cosine=rng.uniform(size=(2, *plan.shape, N_FEATURES)),
        features=None,
        load_params=lambda index: weights,
    )


def comparison(*datasets):
    return Comparison(dict.fromkeys(datasets, SPEC), ("pca",), (0,), (8,), (), BATCH)


def test_saes_beside_baselines_are_the_best_of_ratio_1_and_the_best_of_all():
    result = grid(lr=(1e-3, 1e-2))
    mmcs = result.final["mmcs_true_to_dict"]
    mmcs[0, :, 0, 1, 1, 0] += 2  # data set a, ratio 2, l1 0.01, lr 0.01
    mmcs[0, :, 1, 0, 0, 0] += 1  # data set a, ratio 1, l1 0.1, lr 0.001
    mmcs[1, :, 1, 1, 0, 0] += 1  # data set b, ratio 1, l1 0.01, lr 0.001
    mmcs[1, 0, 0, 0, 0, 0] += 1.5  # the best of one seed alone
    got = of_saes(result, comparison("a", "b"))
    last = result.best_cosine[-1]  # pyright: ignore
    expected = {
        "a/SAE, ratio 1, L1 0.1": last[0, :, 1, 0, 0, 0, 0, 0],
        "a/SAE, ratio 2, L1 0.01": last[0, :, 0, 1, 1, 0, 0, 0],
        "b/SAE, ratio 1, L1 0.01": last[1, :, 1, 1, 0, 0, 0, 0],
    }
    assert list(got) == list(expected)
    for name, cosine in expected.items():
        np.testing.assert_array_equal(got[name], cosine, err_msg=name)


def test_saes_are_those_of_the_data_sets_compared():
    assert all(name.startswith("b/") for name in of_saes(grid(), comparison("b")))


def test_a_grid_without_ratio_1_gives_its_best_alone():
    result = grid(ratio=(2, 4), seeds=7)
    result.final["mmcs_true_to_dict"][0, 0, 1, 0] = 2
    got = of_saes(result, comparison("a"))
    assert list(got) == ["a/SAE, ratio 4, L1 0.1"]
    np.testing.assert_array_equal(
        got["a/SAE, ratio 4, L1 0.1"],
        result.best_cosine[-1][0, :, 1, 0, 0, 0, 0, 0],  # pyright: ignore
    )


def test_a_seed_that_froze_has_no_cosines():
    result = grid(ratio=1)
    result.final["mmcs_true_to_dict"][0, :, 0, 1] = 2
    result.final["frozen_at"][0, 1, 0, 1] = 3
    (cosine,) = of_saes(result, comparison("a")).values()
    np.testing.assert_array_equal(np.isnan(cosine).all(1), [False, True, False])
    np.testing.assert_array_equal(
        cosine[[0, 2]], result.best_cosine[-1][0, [0, 2], 0, 1, 0, 0, 0, 0]
    )  # pyright: ignore
