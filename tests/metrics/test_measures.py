"""Metrics against NumPy loops in float64, and properties that hold for any two sets of rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax.core import linalg
from saejax.metrics import measures
from saejax.metrics.measures import Samples, Subject
from saejax.sae.params import Params, SAEConfig

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)
mmcs = jax.jit(measures.mmcs)


def cosine(g, d):
    norms = np.sqrt(sum(g * g)) * np.sqrt(sum(d * d))
    return sum(g * d) / norms if norms > 0 else 0.0


def maximum_cosines(G, D):
    """MCS: of each row of G, its largest cosine with a row of D."""
    G, D = np.float64(G), np.float64(D)
    return np.array([max(cosine(g, d) for d in D) for g in G])


def rows(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def value(G, D):
    return float(mmcs(jnp.array(G, jnp.float32), jnp.array(D, jnp.float32)))


# --- dictionaries ------------------------------------------------------------------------------


def test_recovery_by_hand():
    F = [[2.0, 0.0, 0.0], [0.0, -1.0, 0.0], [1.0, 1.0, 0.0]]
    W_dec = [[0.0, 3.0, 0.0], [3.0, 4.0, 0.0], [-1.0, -1.0, 5.0]]
    zeros = jnp.zeros((3, 3))
    _, index, cos, feature_of = measures.recovery(
        Params(zeros, zeros[0], jnp.array(W_dec)), jnp.array(F)
    )
    np.testing.assert_array_equal(index, [1, 2, 1])
    np.testing.assert_allclose(cos, [0.6, 1 / np.sqrt(27), 7 / np.sqrt(50)], rtol=1e-6)
    np.testing.assert_array_equal(feature_of, [1, 2, 2])
    assert index.dtype == feature_of.dtype == jnp.int32


def test_cosines_of_a_loop():
    G, D = rows(5), rows(8, seed=1)
    table = [[cosine(np.float64(g), np.float64(d)) for d in D] for g in G]
    np.testing.assert_allclose(linalg.cosines(jnp.array(G), jnp.array(D)), table, atol=1e-6)


def test_mmcs_asks_a_different_question_in_each_direction():
    G, D = np.eye(3)[:2], np.eye(3)
    assert value(G, D) == 1.0
    np.testing.assert_allclose(value(D, G), 2 / 3, rtol=1e-6)


def test_mmcs_of_a_loop_in_both_directions():
    G, D = rows(5), rows(8, seed=1)
    np.testing.assert_allclose(value(G, D), maximum_cosines(G, D).mean(), atol=1e-6)
    np.testing.assert_allclose(value(D, G), maximum_cosines(D, G).mean(), atol=1e-6)


@pytest.mark.parametrize("n", [1024, 1030, 2050])
def test_mmcs_in_blocks_is_that_of_the_full_table(n):
    G, D = rows(n, seed=2), rows(5, seed=3)
    G[1024:] = 3 * D[0]
    unit_G, unit_D = (
        np.float64(a) / np.linalg.norm(np.float64(a), axis=1)[:, None] for a in (G, D)
    )
    np.testing.assert_allclose(value(G, D), (unit_G @ unit_D.T).max(1).mean(), atol=1e-6)


def test_recovery_names_its_two_directions():
    F, W_dec = rows(5), rows(8, seed=1)
    zeros = jnp.zeros((3, 8))
    params = Params(zeros, zeros[0], jnp.array(W_dec))
    scalars, index, cos = measures.recovery(params, jnp.array(F))[:3]
    found, true = maximum_cosines(F, W_dec), maximum_cosines(W_dec, F)
    np.testing.assert_allclose(scalars["mmcs_true_to_dict"], found.mean(), atol=1e-6)
    np.testing.assert_allclose(scalars["mmcs_dict_to_true"], true.mean(), atol=1e-6)
    np.testing.assert_allclose(cos, found, atol=1e-6)
    table = [[cosine(np.float64(f), np.float64(d)) for d in W_dec] for f in F]
    np.testing.assert_array_equal(index, np.argmax(table, axis=1))


def test_zero_rows_have_cosine_zero():
    G, D = rows(3), rows(2, seed=1)
    G[1], D[0] = 0, 0
    table = np.asarray(linalg.cosines(jnp.array(G), jnp.array(D)))
    assert (table[1] == 0).all()
    assert (table[:, 0] == 0).all()
    np.testing.assert_allclose(value(G, D), maximum_cosines(G, D).mean(), atol=1e-6)
    assert value(0 * G, D) == value(G, 0 * D) == 0.0


def sets_of_rows(n):
    """n rows of 3 whole numbers, zero rows and repeated rows among them."""
    row = st.tuples(*[st.integers(-4, 4)] * 3)
    return st.lists(row, min_size=n, max_size=n).map(lambda a: np.array(a, np.float32))


@quick
@given(sets_of_rows(4), sets_of_rows(6))
def test_mmcs_is_that_of_a_loop_within_minus_one_and_one(G, D):
    got = value(G, D)
    assert -1 - 1e-6 <= got <= 1 + 1e-6
    np.testing.assert_allclose(got, maximum_cosines(G, D).mean(), atol=1e-6)


@quick
@given(sets_of_rows(4))
def test_mmcs_with_itself_is_one(G):
    G[~G.any(1)] = 1.0
    np.testing.assert_allclose(value(G, G), 1.0, atol=1e-6)


@quick
@given(sets_of_rows(4), sets_of_rows(6), st.randoms(use_true_random=False))
def test_mmcs_does_not_see_order_and_scale(G, D, random):
    before = value(G, D)
    for a in (G, D):
        scales = np.array([[random.uniform(0.01, 100)] for _ in a])
        a[:] = a[random.sample(range(len(a)), len(a))] * scales
    np.testing.assert_allclose(value(G, D), before, atol=1e-6)


@quick
@given(sets_of_rows(4), sets_of_rows(6), sets_of_rows(2))
def test_mmcs_only_grows_with_more_candidates(G, D, more):
    assert value(G, np.concatenate([D, more])) >= value(G, D) - 1e-6


# --- reconstruction ----------------------------------------------------------------------------

D_IN, D_SAE, L1 = 3, 5, 0.3
USES_B_DEC = SAEConfig(use_b_dec=True)


@partial(jax.jit, static_argnames=("config", "threshold"))
def reconstruct(params, batches, config, threshold=0.0):
    return measures.reconstruction(Subject(params, L1, config=config), Samples(batches), threshold)


def make(use_b_dec=True):
    rng = np.random.default_rng(0)
    shapes = [(D_IN, D_SAE), (D_SAE,), (D_SAE, D_IN), (D_IN,)][: 3 + use_b_dec]
    params = Params(*(jnp.array(rng.normal(size=s), jnp.float32) for s in shapes))
    # One latent is silent for good, one whispers.
    params = params._replace(
        W_enc=params.W_enc.at[:, :2].multiply(jnp.array([0.0, 0.01])),
        b_enc=params.b_enc.at[:2].set(jnp.array([-1.0, 0.1])),
    )
    return params, jnp.array(rng.normal(size=(2, 8, D_IN)) + 1.0, jnp.float32)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("use_b_dec", [False, True])
def test_reconstruction_of_a_loop(reduction, use_b_dec):
    params, batches = make(use_b_dec)
    config = SAEConfig(reduction, use_b_dec=use_b_dec)
    W_enc, b_enc, W_dec = (np.float64(a) for a in params[:3])
    b_dec = np.float64(params.b_dec) if use_b_dec else np.zeros(D_IN)
    samples = np.float64(batches).reshape(-1, D_IN)
    mean = sum(samples) / len(samples)
    squared = variance = activation = active = 0.0
    highest = np.zeros(D_SAE)
    for x in samples:
        h = np.array([max(0.0, sum((x - b_dec) * W_enc[:, j]) + b_enc[j]) for j in range(D_SAE)])
        squared += sum((sum(h[j] * W_dec[j] for j in range(D_SAE)) + b_dec - x) ** 2)
        variance += sum((x - mean) ** 2)
        activation += sum(h) / (D_SAE if reduction == "mean" else 1)
        active += sum(h > 0)
        highest = np.maximum(highest, h)
    expected = {
        "mse": squared / (len(samples) * D_IN),
        "l1_loss": L1 * activation / len(samples),
        "l0": active / len(samples),
        "fvu": squared / variance,
    }
    assert sum(highest == 0) < sum(highest <= 0.5) < D_SAE, "thresholds must matter"
    for threshold in (0.0, 0.5, 1e9):
        got = reconstruct(params, batches, config, threshold)
        assert set(got) == {*expected, "dead_latents"}
        assert got["dead_latents"] == sum(highest <= threshold)
        for name, number in expected.items():
            np.testing.assert_allclose(got[name], number, rtol=5e-6, err_msg=name)


def test_a_latent_at_the_threshold_is_dead():
    zeros = jnp.zeros((D_IN, D_SAE))
    params = Params(zeros, jnp.array([0.0, 0.25, 0.5, 0.75, 1.0]), zeros.T)
    for threshold, dead in ((0.0, 1), (0.5, 3), (0.51, 3), (1.0, 5)):
        got = reconstruct(params, make()[1], SAEConfig(), threshold)
        assert got["dead_latents"] == dead
        assert got["l0"] == 4


@pytest.mark.parametrize("apply_b_dec_to_input", [False, True])
def test_alive_are_the_latents_that_exceed_the_threshold_in_any_batch(apply_b_dec_to_input):
    params, batches = make()
    config = SAEConfig(use_b_dec=True, apply_b_dec_to_input=apply_b_dec_to_input)
    W_enc, b_enc, _, b_dec = (np.float64(a) for a in params[:4])
    seen = np.float64(batches) - (b_dec if apply_b_dec_to_input else 0.0)
    first, second = np.maximum(seen @ W_enc + b_enc, 0).max(1)
    counts = set()
    # Each threshold lies between what one latent reaches in the two batches.
    for j in (np.argmax(first - second), np.argmax(second - first)):
        threshold = float(first[j] + second[j]) / 2
        got = measures.alive(Subject(params, config=config), batches, threshold)
        assert (got.shape, got.dtype) == ((D_SAE,), bool)
        np.testing.assert_array_equal(got, np.maximum(first, second) > threshold)
        dead = reconstruct(params, batches, config, threshold)["dead_latents"]
        assert (~np.asarray(got)).sum() == dead
        counts.add(int(dead))
    assert 0 < min(counts) <= max(counts) < D_SAE, "thresholds must matter"


def test_a_latent_at_the_threshold_is_not_alive():
    zeros = jnp.zeros((D_IN, D_SAE))
    params = Params(zeros, jnp.array([0.0, 0.25, 0.5, 0.75, 1.0]), zeros.T)
    for threshold, dead in ((0.0, 1), (0.5, 3)):
        got = measures.alive(Subject(params), make()[1], threshold)
        np.testing.assert_array_equal(got, np.arange(D_SAE) >= dead)


@pytest.mark.parametrize("use_b_dec", [False, True])
def test_how_samples_are_split_into_batches_does_not_matter(use_b_dec):
    params, batches = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    together = reconstruct(params, batches.reshape(1, 16, D_IN), config)
    apart = reconstruct(params, batches.reshape(8, 2, D_IN), config)
    for name, number in together.items():
        np.testing.assert_allclose(apart[name], number, rtol=1e-5, err_msg=name)


@quick
@given(st.integers(0, 2**16), st.floats(0.1, 10), st.floats(-3, 3))
def test_fvu_of_the_mean_predictor_is_one(seed, scale, offset):
    x = rows(16, D_IN, seed) * scale + offset
    zeros = jnp.zeros((D_IN, D_SAE))
    silent = Params(zeros, -jnp.ones(D_SAE), zeros.T, jnp.array(x.mean(0)))
    got = reconstruct(silent, jnp.array(x, jnp.float32).reshape(2, 8, D_IN), USES_B_DEC)
    np.testing.assert_allclose(got["fvu"], 1.0, rtol=1e-4)
    np.testing.assert_allclose(got["mse"], x.var(0).mean(), rtol=1e-4)
    assert got["l0"] == got["l1_loss"] == 0
    assert got["dead_latents"] == D_SAE
