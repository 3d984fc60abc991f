"""Activations of latents on a stored text: against dense arrays, plain loops and NumPy."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csc_array
from scipy.stats import chisquare

from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter
from saejax.interpret.activity import (
    ROWS,
    activity,
    around,
    correlations,
    drawn,
    sequences,
    statistics,
    strongest,
)
from saejax.sae.params import Params

D, D_SAE = 3, 5


def stored(path, lengths, first=0, x=None, has_tokens=True):
    """Sequences of some lengths, whose tokens are the number of their sequence."""
    n = sum(lengths)
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, D)).astype(np.float32) if x is None else x
    tokens = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.concatenate([np.arange(first, first + length) for length in lengths])
    config = StoreConfig(
        {"seed": 1}, "hook", x.shape[1], rows_per_shard=max(7, n // 2), has_tokens=has_tokens
    )
    with StoreWriter(path, config) as writer:
        writer.append(x, *((tokens, positions) if has_tokens else ()))
        writer.finish()
    return Store.open(path)


def sae(b_dec=True, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (D, D_SAE), (D_SAE,), (D_SAE, D), (D,)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    arrays[1][3] = -100
    return Params(*arrays) if b_dec else Params(*arrays[:3])


def dense(params, x):
    """The encoder in float64, and where rounding does not decide what is active."""
    W_enc, b_enc, _, b_dec = (None if a is None else np.float64(a) for a in params[:4])
    h = (np.float64(x) - (0 if b_dec is None else b_dec)) @ W_enc + b_enc
    return np.maximum(h, 0), np.abs(h) > 1e-5


def column(values, others=2):
    """A latent with given activations, between others that are active elsewhere."""
    rng = np.random.default_rng(8)
    h = rng.exponential(size=(len(values), 2 * others + 1)).astype(np.float32)
    h[rng.random(h.shape) < 0.5] = 0
    h[:, others] = values
    return csc_array(h), others


# --------------------------------------------------------------------------------------- sequences


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("lengths", "n_tokens", "chosen"),
    [
        ([4] * 10, 12, [0, 4, 9]),
        ([4] * 10, 13, [0, 3, 6, 9]),
        ([4] * 10, 4, [0]),
        ([4] * 10, 1, [0]),
        ([1, 5, 2, 4, 3, 3], 9, [0, 2, 5]),
        ([1, 5, 2, 4, 3, 3], 18, range(6)),
        ([1, 5, 2, 4, 3, 3], 10**15, range(6)),
        ([1] * 6, 2, [0, 5]),
        ([9], 2, [0]),
    ],
)
def test_whole_sequences_are_taken_spread_over_the_store(
    tmp_path, lengths, n_tokens, chosen, first
):
    """Without the first position of every window, sequences begin at position 1."""
    store = stored(tmp_path / "store", lengths, first)
    rows, bounds = sequences(store, n_tokens)
    ends = np.cumsum(lengths)
    expected = [np.arange(ends[i] - lengths[i], ends[i]) for i in chosen]
    assert rows.tolist() == np.concatenate(expected).tolist()
    assert bounds.tolist() == [0, *np.cumsum([len(part) for part in expected])]
    tokens = store.token_ids(rows)
    parts = [set(tokens[a:b].tolist()) for a, b in pairwise(bounds)]
    assert parts == [{i} for i in chosen]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("n", [0, -4, 2.5, True, None])
def test_a_number_of_tokens_that_is_none_is_refused(tmp_path, n):
    store = stored(tmp_path / "store", [2, 2])
    with pytest.raises(
        ValueError, match=rf"^sample_tokens: got {n}, allowed: a whole number, 1 or"
    ):
        sequences(store, n)


def test_a_store_without_tokens_has_no_sequences(tmp_path):
    store = stored(tmp_path / "store", [2, 2], has_tokens=False)
    with pytest.raises(ValueError, match="keeps no positions"):
        sequences(store, 4)


# --------------------------------------------------------------------------------------- activity


@pytest.mark.parametrize("b_dec", [True, False])
def test_activations_are_those_of_a_dense_encoder_with_zeros_left_out(tmp_path, b_dec):
    n = ROWS + 5
    store, params = stored(tmp_path / "store", [n]), sae(b_dec)
    rows = np.random.default_rng(1).permutation(n)[: n - 1]
    h = activity(params, store, rows)
    expected, clear = dense(params, store.rows(rows))
    assert h.shape == (n - 1, D_SAE)
    np.testing.assert_allclose(h.toarray(), expected, rtol=1e-4, atol=1e-5)
    assert (h.data > 0).all()
    stored_at = np.zeros(h.shape, bool)
    stored_at[h.indices, np.repeat(np.arange(D_SAE), np.diff(h.indptr))] = True
    np.testing.assert_array_equal(stored_at[clear], (expected > 0)[clear])
    assert h.indptr[3] == h.indptr[4]
    for own in np.split(h.indices, h.indptr[1:-1]):
        assert (np.diff(own) > 0).all()


def test_rows_at_which_nothing_fires_are_rows_all_the_same(tmp_path):
    n = 2 * ROWS + 3
    x = np.full((n, D), -1, np.float32)
    x[[0, 4, ROWS + 2]] = 2
    params = Params(np.eye(D, D_SAE, dtype=np.float32), np.zeros(D_SAE, np.float32), sae().W_dec)
    h = activity(params, stored(tmp_path / "store", [n], x=x), np.arange(n))
    assert h.shape == (n, D_SAE)
    assert np.split(h.indices, h.indptr[1:-1])[0].tolist() == [0, 4, ROWS + 2]
    assert h.data.tolist() == [2] * 3 * D
    silent = params._replace(b_enc=np.full(D_SAE, -100, np.float32))
    assert activity(silent, Store.open(tmp_path / "store"), np.arange(n)).nnz == 0


def always_active():
    """An SAE of which every latent fires at every row."""
    params = sae()
    return params._replace(b_enc=np.full(D_SAE, 100, np.float32))


def test_more_firings_than_memory_holds_are_refused(tmp_path, monkeypatch):
    n = ROWS + 7
    store = stored(tmp_path / "store", [n])
    monkeypatch.setattr("saejax.interpret.activity.MOST_FIRINGS", D_SAE * n)
    assert activity(always_active(), store, np.arange(n)).nnz == D_SAE * n
    monkeypatch.setattr("saejax.interpret.activity.MOST_FIRINGS", D_SAE * n - 1)
    message = rf"^sample_tokens: got {n}, at 5 active latents a token; allowed: up to {n - 1}, for"
    with pytest.raises(ValueError, match=message):
        activity(always_active(), store, np.arange(n))


def test_too_many_firings_are_refused_after_the_first_rows(tmp_path, monkeypatch):
    n, read = 3 * ROWS, []
    store = stored(tmp_path / "store", [n])
    monkeypatch.setattr("saejax.interpret.activity.MOST_FIRINGS", 2 * ROWS * D_SAE)
    inner = store.rows
    monkeypatch.setattr(store, "rows", lambda rows: read.append(len(rows)) or inner(rows))
    with pytest.raises(ValueError, match=f"allowed: up to {2 * ROWS}"):
        activity(always_active(), store, np.arange(n))
    assert read == [ROWS]


def test_an_sae_of_another_width_than_the_store_is_refused(tmp_path):
    store = stored(tmp_path / "store", [4], x=np.ones((4, D + 1), np.float32))
    with pytest.raises(ValueError, match=r"^params: got an SAE of d_in=3, allowed: the store's 4"):
        activity(sae(), store, np.arange(4))


# --------------------------------------------------------------------------------------- statistics


def test_statistics_by_hand():
    h = csc_array(np.array([[0, 1, 2], [0, 0, 4], [0, 3, 0], [0, 0, 9]], np.float32))
    got = statistics(h)
    assert got.firings.tolist() == [0, 2, 3]
    np.testing.assert_allclose(got.mean, [0, 2, 5])
    assert got.highest.tolist() == [0, 3, 9]
    np.testing.assert_allclose(got.selectivity, [np.nan, 2 / np.log(3), 5 / np.log(4)])


def test_statistics_are_those_of_the_dense_activations(tmp_path):
    store, params = stored(tmp_path / "store", [300]), sae()
    got, (h, _) = (
        statistics(activity(params, store, np.arange(300))),
        dense(params, store.rows(range(300))),
    )
    n = (h > 0).sum(0)
    assert got.firings.tolist() == n.tolist()
    np.testing.assert_allclose(got.mean, h.sum(0) / np.maximum(n, 1), rtol=1e-5)
    np.testing.assert_allclose(got.highest, h.max(0), rtol=1e-5)
    assert np.isnan(got.selectivity).tolist() == [False, False, False, True, False]


# --------------------------------------------------------------------------------------- contexts

BOUNDS = np.array([0, 3, 4, 8, 10])


def test_the_strongest_rows_are_one_of_each_sequence():
    h, latent = column([1, 5, 5, 0, 2, 9, 7, 2, 5, 5])
    assert strongest(h, BOUNDS, latent, 9).tolist() == [5, 1, 8]
    assert strongest(h, BOUNDS, latent, 2).tolist() == [5, 1]
    found = strongest(h, np.arange(11), latent, 99)
    assert found.tolist() == [5, 6, 1, 2, 8, 9, 4, 7, 0]
    assert found.dtype == np.int64


def test_a_latent_that_never_fires_has_no_rows():
    h, latent = column(np.zeros(10))
    assert strongest(h, BOUNDS, latent, 3).tolist() == []
    assert [part.tolist() for part in drawn(h, latent, 3, 2)] == [[], [], []]
    assert not around(h, BOUNDS, latent, np.arange(10), 2, 2).any()


def test_rows_are_drawn_by_interval_of_activation():
    """Borders belong to the interval above, the highest activation to the last."""
    h, latent = column([0, 1, 2.4, 2.5, 4.9, 5, 7.6, 10, 0, 7.5])
    parts = drawn(h, latent, 4, 99)
    assert [sorted(part.tolist()) for part in parts] == [[1, 2], [3, 4], [5], [6, 7, 9]]
    assert [sorted(part.tolist()) for part in drawn(h, latent, 1, 99)] == [[1, 2, 3, 4, 5, 6, 7, 9]]
    for fewer, all_of_them in zip(drawn(h, latent, 4, 2), parts, strict=True):
        assert fewer.tolist() == all_of_them[:2].tolist()


def test_a_draw_depends_on_the_firings_of_the_latent_alone():
    values = np.random.default_rng(2).exponential(size=50)
    values[::3] = 0
    h, latent = column(values)
    other = h.toarray()
    other[:, np.arange(other.shape[1]) != latent] = 0
    longer = csc_array(np.concatenate([other, np.zeros((20, other.shape[1]), np.float32)]))
    once = drawn(h, latent, 2, 5)
    for again in (
        drawn(h, latent, 2, 5),
        drawn(csc_array(other), latent, 2, 5),
        drawn(longer, latent, 2, 5),
    ):
        assert [part.tolist() for part in again] == [part.tolist() for part in once]
    assert [part.tolist() for part in drawn(h, latent, 2, 5, seed=1)] != [p.tolist() for p in once]


def test_every_firing_is_drawn_equally_often():
    h, latent = column([3, 0, 1, 2, 9, 0, 7, 8])
    counts, firsts = np.zeros(8), np.zeros(8)
    for seed in range(900):
        (rows,) = drawn(h, latent, 1, 2, seed)
        assert len(set(rows.tolist())) == 2
        counts[rows] += 1
        firsts[rows[0]] += 1
    fires = [0, 2, 3, 4, 6, 7]
    assert counts.sum() == counts[fires].sum() == 1800
    for seen in (counts, firsts):
        assert chisquare(seen[fires]).pvalue > 0.001


def test_activations_around_rows_are_cut_at_the_ends_of_their_sequence():
    values = [1, 5, 6, 0.5, 2, 9, 7, 3, 4, 8]
    h, latent = column(values)
    rows = np.array([1, 3, 4, 7, 9, -1, 0], np.int32)
    got = around(h, BOUNDS, latent, rows, 2, 1)
    assert got.tolist() == [
        [0, 1, 5, 6],
        [0, 0, 0.5, 0],
        [0, 0, 2, 9],
        [9, 7, 3, 0],
        [0, 4, 8, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 5],
    ]
    assert around(h, BOUNDS, latent, rows, 0, 0)[:, 0].tolist() == [5, 0.5, 2, 3, 8, 0, 1]


# ------------------------------------------------------------------------------------- correlations


@pytest.mark.parametrize("n", [50, ROWS, 2 * ROWS + 3])
def test_correlations_are_pearsons(n):
    rng = np.random.default_rng(n)
    shared = rng.normal(size=n)
    h = np.maximum(rng.normal(size=(n, 6)) + shared[:, None] * np.linspace(-1, 1, 6), 0)
    h[rng.random(n) < 0.9, 2] = 0
    h[:, 4] += 3
    h = h.astype(np.float32)
    got, expected = np.asarray(correlations(csc_array(h))), np.corrcoef(h.T.astype(np.float64))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    some = correlations(csc_array(h), np.array([5, 1]))
    np.testing.assert_allclose(some, expected[[5, 1]][:, [5, 1]], atol=1e-5)
    assert np.abs(got).max() <= 1


def test_a_dense_latent_that_varies_little_beside_its_mean_keeps_its_correlation():
    """Second moments less squared means would leave rounding of float32 alone."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(40_000, 3))
    z[:, 1] += z[:, 0]
    for spread in (1e-2, 1e-3):
        h = (50 + 50 * spread * z).astype(np.float32)
        got = np.asarray(correlations(csc_array(h)))
        np.testing.assert_allclose(got, np.corrcoef(h.T.astype(np.float64)), atol=1e-4)


@pytest.mark.parametrize("constant", [0, 1, 0.1, 1e-3, 77.7])
def test_a_latent_that_never_varies_correlates_with_none(constant):
    h = np.random.default_rng(4).exponential(size=(3 * ROWS + 9, 3)).astype(np.float32)
    h[:, 1] = constant
    got = np.asarray(correlations(csc_array(h)))
    np.testing.assert_array_equal(got[1], 0)
    np.testing.assert_array_equal(got[:, 1], 0)
    np.testing.assert_allclose(got[0, 2], np.corrcoef(h.T[::2])[0, 1], atol=1e-5)


def test_no_latents_have_no_correlations():
    assert correlations(column(np.ones(4))[0], np.zeros(0, np.int64)).shape == (0, 0)
    assert jnp.isfinite(correlations(column(np.ones(1))[0])).all()
