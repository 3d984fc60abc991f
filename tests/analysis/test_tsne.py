"""t-SNE keeps neighbours together, and nothing it is given can take the process down."""

import sys

import numpy as np
import pytest

from saejax.analysis.tsne import tsne

WHY = "the extra [studies] is not installed"


@pytest.fixture
def manifold():
    return pytest.importorskip("sklearn.manifold", reason=WHY)


def gaussian(n=30, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def distances(y):
    return np.linalg.norm(y[:, None] - y[None], axis=-1)


def test_blobs_stay_apart(manifold):
    blob = np.repeat([0, 1, 2], 12)
    x = gaussian(36) + 50 * np.eye(5, dtype=np.float32)[blob]
    y = tsne(x, perplexity=8)
    assert y.shape == (36, 2)
    assert y.dtype == np.float32
    d = distances(y) + np.diag(np.full(36, np.inf))
    assert (blob[d.argmin(1)] == blob).all()


def test_it_is_scikit_learns(manifold):
    # Samples that are centred and have largest entry 1 are given on as they are.
    x = gaussian(20, 3).astype(np.float64)
    x = np.concatenate([x, -x])
    x /= np.abs(x).max()
    x = np.round(x * 2**20) / 2**20  # exact in float32
    theirs = manifold.TSNE(init="pca", perplexity=7, random_state=2).fit_transform(x)
    np.testing.assert_allclose(tsne(x, seed=2, perplexity=7), theirs, rtol=1e-3, atol=1e-2)


def test_equal_samples_end_up_together(manifold):
    x = np.concatenate([gaussian(30), np.zeros((6, 5), np.float32)])
    y = tsne(x, perplexity=5)
    assert np.isfinite(y).all()
    among_zeros = distances(y[30:]).max()
    to_others = distances(y)[30:, :30].min()
    assert among_zeros < to_others


def test_collinear_samples_have_an_embedding(manifold):
    y = tsne(np.outer(gaussian(30, 1), gaussian(1, 4)), perplexity=5)
    assert np.isfinite(y).all()
    assert np.ptp(y) > 1


@pytest.mark.parametrize(
    ("unit", "offset"),
    [(1e37, 0.0), (1e-37, 0.0), (1e-3, 1000.0)],
    ids=["huge", "tiny", "far away"],
)
def test_no_unit_or_offset_breaks_it(unit, offset, manifold):
    y = tsne(gaussian() * np.float32(unit) + np.float32(offset), perplexity=5)
    assert np.isfinite(y).all()
    assert y.std(0).min() > 1


def test_the_seed_reaches_the_solver(manifold, monkeypatch):
    given = {}

    class Recorder:
        def __init__(self, **settings):
            given.update(settings)

        def fit_transform(self, x):
            return np.zeros((len(x), 2), np.float32)

    monkeypatch.setattr(manifold, "TSNE", Recorder)
    tsne(gaussian(), seed=7, perplexity=4.5)
    assert given == {"init": "pca", "perplexity": 4.5, "random_state": 7}


def test_one_seed_gives_one_result(manifold):
    np.testing.assert_array_equal(tsne(gaussian(), 3, 5), tsne(gaussian(), 3, 5))


@pytest.mark.parametrize(
    ("x", "perplexity", "message"),
    [
        (np.ones(3), 1, "x: got shape (3,), allowed: [n, d_in] with 1 or more of both"),
        (
            np.full((4, 2), np.nan),
            1,
            "x: got 8 entries that are not finite in float32, allowed: none",
        ),
        (gaussian(9, 1), 3, "x: got 1 column, allowed: 2 or more"),
        (
            np.full((9, 3), 0.1),
            3,
            "x: got 9 samples that are all equal, allowed: two different ones",
        ),
        (gaussian(1), 0.5, "x: got 1 samples that are all equal"),
        (gaussian(30), 30, "perplexity: got 30, allowed: above 0, below the 30 samples"),
        (gaussian(30), 0, "perplexity: got 0, allowed: above 0, below the 30 samples"),
        (gaussian(30), np.nan, "perplexity: got nan, allowed: above 0, below the 30 samples"),
    ],
)
def test_bad_arguments_are_refused_by_name(x, perplexity, message, unchecked, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)  # refused before it is needed
    with pytest.raises(ValueError) as error:  # noqa: PT011
        tsne(x, perplexity=perplexity)
    assert str(error.value).startswith(message)


def test_a_bad_seed_is_refused():
    with pytest.raises(ValueError, match="seed: got -1, allowed: from 0 to 4294967295"):
        tsne(gaussian(), seed=-1, perplexity=5)


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError) as error:
        tsne(gaussian(), perplexity=5)
    assert str(error.value) == 'tsne needs scikit-learn: pip install "saejax[studies]"'
