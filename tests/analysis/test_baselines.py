"""Baselines against closed forms, NumPy by hand and scikit-learn's own estimators."""

import sys

import numpy as np
import pytest

from saejax.analysis import baselines
from saejax.analysis.baselines import METHODS, fit

WHY = "the extra [studies] is not installed"
NEEDS = {
    "kmeans": ["sklearn.cluster"],
    "kmedoids": ["kmedoids"],
    "pca": [],
    "ica": ["sklearn.decomposition"],
}


def library(method):
    """The modules a method is made of; skips the test where they are missing."""
    return [pytest.importorskip(module, reason=WHY) for module in NEEDS[method]]


def gaussian(n=40, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def sources(n=500, d=4, seed=0):
    """Independent, sparse, not negative, mixed by columns that are far from orthogonal."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) + 2 * np.eye(d)
    return (rng.exponential(size=(n, d)) @ mixing.T).astype(np.float32), mixing


def blobs():
    """Three groups of samples far apart, and the means of the groups."""
    means = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], np.float32)
    return (means[:, None] + gaussian(30, 2).reshape(3, 10, 2)).reshape(30, 2)


def sorted_rows(rows):
    return rows[np.lexsort(rows.T[::-1])]


# --- what is found -----------------------------------------------------------------------------


def test_pca_by_hand():
    # Variances 50 and 2 along (3, 4) / 5 and (-4, 3) / 5, around a mean that is not 0.
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    x = np.add(np.stack([5 * along, -5 * along, across, -across]), [1, -2])
    found = fit("pca", x.astype(np.float32), 2)
    np.testing.assert_allclose(found.dictionary, [[0.6, 0.8], [0.8, -0.6]], atol=1e-6)
    assert (found.converged, found.iterations, found.message) == (True, None, "")


def test_pca_diagonalises_the_covariance_by_falling_variance():
    x = gaussian(50, 5) * [1, 5, 2, 4, 3] + 7
    axes = fit("pca", x, 5).dictionary.astype(np.float64)
    covariance = axes @ np.cov(x.T) @ axes.T
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-5)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(np.cov(x.T))[::-1], rtol=1e-5)
    np.testing.assert_allclose(axes @ axes.T, np.eye(5), atol=1e-6)
    assert (axes[np.arange(5), np.abs(axes).argmax(1)] > 0).all()


@pytest.mark.parametrize(("n", "d", "k"), [(40, 6, 6), (40, 6, 2), (100, 7, 20), (8, 20, 7)])
def test_pca_is_scikit_learns(n, d, k):
    PCA = pytest.importorskip("sklearn.decomposition", reason=WHY).PCA
    x = gaussian(n, d) + 3
    theirs = PCA(min(k, n, d)).fit(x).components_
    np.testing.assert_allclose(fit("pca", x, k).dictionary, theirs, atol=1e-4)


def test_kmeans_finds_the_means_of_blobs():
    library("kmeans")
    x = blobs()
    found = fit("kmeans", x, 3)
    means = x.reshape(3, 10, 2).mean(1)
    np.testing.assert_allclose(sorted_rows(found.dictionary), sorted_rows(means), atol=1e-4)
    assert found.converged
    assert found.message == ""


def test_kmeans_is_scikit_learns():
    (cluster,) = library("kmeans")
    x = gaussian(200, 5)
    theirs = cluster.KMeans(12, n_init=1, random_state=3).fit(x)
    found = fit("kmeans", x, 12, seed=3)
    np.testing.assert_allclose(found.dictionary, theirs.cluster_centers_, rtol=1e-6, atol=1e-7)
    assert found.iterations == theirs.n_iter_


def test_kmedoids_finds_the_sample_of_each_blob_that_is_closest_to_the_rest():
    library("kmedoids")
    x = blobs()
    medoids = []
    for blob in x.reshape(3, 10, 2):
        cost = [sum(np.sqrt(((a - b) ** 2).sum()) for b in blob) for a in blob]
        medoids.append(blob[np.argmin(cost)])
    found = fit("kmedoids", x, 3)
    np.testing.assert_array_equal(sorted_rows(found.dictionary), sorted_rows(np.array(medoids)))
    assert found.converged


def test_the_global_dice_of_numpy_are_left_alone():
    library("kmedoids")
    before = np.random.get_state()[1:3]  # noqa: NPY002
    fit("kmedoids", gaussian(1000, 2), 20, max_iter=1)
    for old, new in zip(before, np.random.get_state()[1:3], strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(old, new)


def test_as_many_clusters_as_samples_are_the_samples():
    x = gaussian(9, 3)
    for method in ("kmeans", "kmedoids"):
        library(method)
        found = fit(method, x, 9)
        np.testing.assert_allclose(sorted_rows(found.dictionary), sorted_rows(x), atol=1e-6)
        assert found.converged


def test_ica_finds_the_columns_of_the_mixing_matrix_up_to_sign():
    library("ica")
    x, mixing = sources(4000)
    found = fit("ica", x, 4)
    columns = mixing.T / np.linalg.norm(mixing.T, axis=1, keepdims=True)
    rows = found.dictionary / np.linalg.norm(found.dictionary, axis=1, keepdims=True)
    assert np.abs(columns @ rows.T).max(1).min() > 0.99
    assert found.converged
    # The rows of the inverse are another set of directions: they would not pass.
    unmixing = np.linalg.pinv(found.dictionary).T
    unmixing /= np.linalg.norm(unmixing, axis=1, keepdims=True)
    assert np.abs(columns @ unmixing.T).max(1).min() < 0.95


def test_ica_is_scikit_learns():
    (decomposition,) = library("ica")
    x, _ = sources()
    theirs = decomposition.FastICA(3, random_state=1).fit(x.astype(np.float64))
    found = fit("ica", x, 3, seed=1)
    np.testing.assert_allclose(found.dictionary, theirs.mixing_.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        np.linalg.pinv(found.dictionary).T, theirs.components_, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("method", METHODS)
def test_one_seed_gives_one_result(method):
    library(method)
    x, _ = sources(200, 5)
    first, again = fit(method, x, 5, seed=4), fit(method, x, 5, seed=4)
    np.testing.assert_array_equal(first.dictionary, again.dictionary)
    assert first.dictionary.dtype == np.float32


@pytest.mark.parametrize("method", ["kmeans", "kmedoids", "ica"])
def test_another_seed_gives_another_result(method):
    library(method)
    x, _ = sources(200, 5)
    assert not np.array_equal(fit(method, x, 5, 4).dictionary, fit(method, x, 5, 5).dictionary)


@pytest.mark.parametrize("method", METHODS)
def test_the_samples_are_left_as_they_were(method):
    library(method)
    x, _ = sources(100)
    before = x.copy()
    fit(method, x, 3)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-100, 110])
def test_the_unit_of_the_samples_changes_nothing(method, power):
    library(method)
    x, _ = sources(100)
    unit = np.float32(2.0) ** power
    small, large = fit(method, x, 3), fit(method, x * unit, 3)
    expected = small.dictionary if method == "pca" else small.dictionary * unit
    np.testing.assert_array_equal(large.dictionary, expected)
    assert large.message == small.message == ""
    assert large.iterations == small.iterations


# --- convergence -------------------------------------------------------------------------------


def test_the_last_iteration_allowed_may_be_the_one_that_converges():
    x, _ = sources(300)
    for method, needless in (("kmeans", 1), ("kmedoids", 1), ("ica", 0)):
        library(method)
        found = fit(method, x, 4 if method == "ica" else 20)
        assert found.converged
        # The last iteration of k-means and k-medoids only confirms, so one fewer reaches the same.
        enough = found.iterations - needless
        assert enough > 1
        exactly = fit(method, x, len(found.dictionary), max_iter=enough)
        np.testing.assert_allclose(exactly.dictionary, found.dictionary, atol=1e-5)
        assert (exactly.converged, exactly.iterations) == (True, enough)
        fewer = fit(method, x, len(found.dictionary), max_iter=enough - 1)
        assert (fewer.converged, fewer.iterations) == (False, enough - 1)
        assert np.isfinite(fewer.dictionary).all()


def test_fastica_warns_when_it_stops_early():
    library("ica")
    found = fit("ica", sources()[0], 4, max_iter=1)
    assert found.message.startswith("FastICA did not converge")
    assert "\n" not in found.message


def test_what_is_said_twice_is_recorded_once():
    library("kmeans")
    found = fit("kmeans", np.repeat(gaussian(2), 5, axis=0), 4, max_iter=1)
    assert found.message.count("distinct clusters") == 1


def test_what_a_package_warns_of_while_it_loads_is_not_recorded(tmp_path, monkeypatch, recwarn):
    (tmp_path / "warns_when_loaded.py").write_text("import warnings\nwarnings.warn('old')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert baselines.require("warns_when_loaded", "it", "a test").__name__ == "warns_when_loaded"
    assert not recwarn.list


def test_one_cluster_is_done_in_one_iteration():
    x = gaussian()
    library("kmedoids")
    assert fit("kmedoids", x, 1, max_iter=1).converged


@pytest.mark.parametrize("error", [np.linalg.LinAlgError, ValueError])
@pytest.mark.parametrize("method", METHODS)
def test_a_numerical_failure_is_a_fit_without_rows(method, error, monkeypatch):
    def fail(*args, **kwargs):
        raise error("no such\nfactorisation")

    library(method)
    owner, name = {
        "kmeans": ("sklearn.cluster.KMeans", "fit"),
        "kmedoids": ("kmedoids", "fasterpam"),
        "pca": ("numpy.linalg", "svd"),
        "ica": ("sklearn.decomposition.FastICA", "fit"),
    }[method]
    monkeypatch.setattr(f"{owner}.{name}", fail)
    found = fit(method, gaussian(), 3)
    assert found.dictionary.shape == (0, 6)
    assert (found.converged, found.iterations) == (False, None)
    assert found.message == "no such factorisation"


def test_a_dictionary_that_is_not_finite_is_a_failure(monkeypatch):
    u, s, axes = np.linalg.svd(np.eye(3))
    monkeypatch.setattr("numpy.linalg.svd", lambda *args, **kwargs: (u, s, axes * np.nan))
    found = fit("pca", gaussian(5, 3), 2)
    assert found.dictionary.shape == (0, 3)
    assert not found.converged
    assert "not finite" in found.message


def test_an_error_of_the_code_is_not_taken_for_a_failure_of_the_method(monkeypatch):
    def fail(*args, **kwargs):
        raise TypeError("wrong argument")

    monkeypatch.setattr("numpy.linalg.svd", fail)
    with pytest.raises(TypeError):
        fit("pca", gaussian(), 2)


# --- data that lack something ------------------------------------------------------------------

CONSTANT = np.concatenate([gaussian(), np.full((40, 1), 0.1, np.float32)], axis=1)
POOR = {
    "fewer samples than dimensions": (gaussian(5, 8), 4),
    "a constant column": (CONSTANT, 6),
    "all equal": (np.full((20, 6), 0.1, np.float32), 0),
    "all zero": (np.zeros((20, 6), np.float32), 0),
    "collinear": (np.outer(gaussian(20, 1), gaussian(1, 6)), 1),
    "each sample five times": (np.repeat(gaussian(4), 5, axis=0), 3),
    "one sample": (gaussian(1), 0),
    "far from the origin": (gaussian() + 1000, 6),
}


@pytest.mark.parametrize("case", POOR)
def test_pca_says_which_axes_are_arbitrary(case):
    x, rank = POOR[case]
    found = fit("pca", x, 100)
    n_axes = min(x.shape)
    assert found.converged
    assert found.dictionary.shape == (n_axes, x.shape[1])
    np.testing.assert_allclose(found.dictionary @ found.dictionary.T, np.eye(n_axes), atol=1e-5)
    assert (f"only {rank} of {n_axes} axes" in found.message) == (rank < n_axes)
    if rank:
        assert fit("pca", x, rank).message == ""


@pytest.mark.parametrize("case", POOR)
def test_ica_fits_the_directions_of_variance_and_no_others(case):
    library("ica")
    x, rank = POOR[case]
    found = fit("ica", x, 100, max_iter=20)
    assert found.dictionary.shape == (rank, x.shape[1])
    # Every column of the mixing matrix is as long as its source's share of the samples.
    lengths = np.linalg.norm(found.dictionary, axis=1)
    assert (lengths > 1e-3).all()
    if rank:
        assert (f"vary along {rank} of {min(x.shape)}" in found.message) == (rank < min(x.shape))
    else:
        assert not found.converged
        assert "all samples are equal" in found.message


@pytest.mark.parametrize("case", POOR)
@pytest.mark.parametrize("method", ["kmeans", "kmedoids"])
def test_clusters_of_poor_data_are_finite(method, case):
    library(method)
    x, _ = POOR[case]
    k = min(6, len(x))
    found = fit(method, x, k)
    assert found.dictionary.shape == (k, x.shape[1])
    assert found.converged
    if method == "kmedoids":
        assert {tuple(row) for row in found.dictionary} <= {tuple(row) for row in x}
    elif len(np.unique(x, axis=0)) < k:
        assert "distinct clusters" in found.message
    else:
        assert found.message == ""


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "nmf"}, "method: got 'nmf', allowed: kmeans, kmedoids, pca, ica"),
        (
            {"x": np.ones(3, np.float32)},
            "x: got shape (3,), allowed: [n, d_in] with 1 or more of both",
        ),
        ({"x": np.ones((2, 2, 2))}, "x: got shape (2, 2, 2), allowed: [n, d_in]"),
        ({"x": np.ones((0, 3))}, "x: got shape (0, 3), allowed: [n, d_in]"),
        ({"x": np.ones((3, 0))}, "x: got shape (3, 0), allowed: [n, d_in]"),
        ({"x": np.array([[1.0, np.nan]])}, "x: got 1 entries that are not finite in float32"),
        ({"x": np.array([[np.inf, 1e300]])}, "x: got 2 entries that are not finite in float32"),
        ({"n_components": 0}, "n_components: got 0, allowed: 1 or more"),
        ({"n_components": 41, "method": "kmeans"}, "n_components: got 41, allowed: up to the 40"),
        ({"n_components": 41, "method": "kmedoids"}, "n_components: got 41, allowed: up to the 40"),
        ({"seed": -1}, "seed: got -1, allowed: from 0 to 4294967295"),
        ({"seed": 2**32}, "seed: got 4294967296, allowed: from 0 to 4294967295"),
        ({"max_iter": 0}, "max_iter: got 0, allowed: 1 or more, or None"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message, unchecked, monkeypatch):
    monkeypatch.setattr(baselines, "_FITTERS", {})  # nothing may be fitted
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fit(**{"method": "ica", "x": gaussian(), "n_components": 3} | arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("method", ["kmeans", "kmedoids", "ica"])
def test_a_missing_package_is_named_with_its_cure(method, monkeypatch):
    for module in ("kmedoids", "sklearn.cluster", "sklearn.decomposition"):
        monkeypatch.setitem(sys.modules, module, None)
    package = "kmedoids" if method == "kmedoids" else "scikit-learn"
    with pytest.raises(ImportError) as error:
        fit(method, gaussian(), 3)
    assert str(error.value) == f'{method} needs {package}: pip install "saejax[studies]"'


def test_pca_needs_neither_package(monkeypatch):
    for module in [*sys.modules, "kmedoids", "sklearn"]:
        if module.split(".")[0] in ("kmedoids", "sklearn"):
            monkeypatch.setitem(sys.modules, module, None)
    assert fit("pca", gaussian(), 3).converged
