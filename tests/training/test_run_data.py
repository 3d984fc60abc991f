"""Whole runs on functions, arrays and mixtures of both, and by hand on full batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_runs import (
    BATCH,
    D_IN,
    EVAL_BATCHES,
    PLAIN,
    ROWS,
    TWO_L1,
    assert_close,
    batch_of,
    cells_of,
    key_of,
    quiet,
)

from saejax import SAEConfig, Settings, Sweep, encode
from saejax.data.source import FullBatch
from saejax.sae import params
from saejax.sae.params import Params


def test_every_batch_is_fresh_and_follows_from_seed_and_step(recorded):
    _, seen, _ = recorded
    keys = [key_of(0, "batches", step) for step in range(8)]
    for done in (4, 8):
        keys += list(jax.random.split(key_of(0, "evaluation", done), EVAL_BATCHES))
    expected = np.stack([batch_of(key) for key in keys])
    assert len(seen) == len(keys)
    gaps = np.abs(np.stack(seen)[:, None] - expected).max((2, 3))
    np.testing.assert_array_equal((gaps < 1e-4).sum(0), 1)
    np.testing.assert_array_equal((gaps < 1e-4).sum(1), 1)


@pytest.fixture(scope="module")
def mixed():
    return quiet(TWO_L1, {"function": batch_of, "rows": ROWS}, PLAIN)


def test_a_function_alone_is_the_function_in_a_dict(recorded, mixed):
    alone, _, _ = recorded
    assert alone.coords["dataset"] == ("data",)
    assert alone.d_sae == (D_IN, D_IN // 2)
    for _, where in cells_of(alone):
        where.pop("dataset")
        assert_close(alone.dictionary(**where), mixed.dictionary(dataset="function", **where))


def test_rows_of_an_array_are_drawn_from_it(mixed):
    keys = jax.random.split(key_of(0, "evaluation", 8), EVAL_BATCHES)
    drawn = [jax.random.randint(key, (BATCH,), 0, len(ROWS)) for key in keys]
    x = ROWS[np.concatenate(drawn)]
    for index, where in cells_of(mixed):
        if where["dataset"] == "rows":
            W_enc, b_enc, W_dec = mixed.dictionary(**where)[:3]
            x_hat = np.maximum(x @ W_enc + b_enc, 0) @ W_dec
            np.testing.assert_allclose(
                mixed.final["mse"][index], ((x_hat - x) ** 2).mean(), rtol=1e-4
            )


def test_without_true_features_their_recovery_is_not_measured(mixed):
    assert mixed.coords["dataset"] == ("function", "rows")
    assert (mixed.features, mixed.best_index, mixed.best_cosine) == (None, None, None)
    assert not {"mmcs_true_to_dict", "represented", "learned"} & (
        set(mixed.final) | set(mixed.history)
    )
    assert np.isfinite(mixed.final["mmcs_to_next_larger"][:, :, 1]).all()
    assert np.isnan(mixed.final["mmcs_to_next_larger"][:, :, 0]).all()


# ---------------------------------------------------------------------------------------- full
# batches

TABLE = np.random.default_rng(8).normal(size=(7, 3)).astype(np.float32)
TWO_LAYERS = SAEConfig(use_b_dec=True, unit_norm=False, init="linear", apply_b_dec_to_input=False)
RATE, PENALTIES, SEED = 0.02, (0.3, 0.03), 2


@pytest.fixture(scope="module")
def full():
    sweep = Sweep(l1=PENALTIES, ratio=5 / 3, seeds=SEED, lr=RATE)
    settings = Settings(steps=8, batch_size=7, eval_every=4, eval_batches=1, sae=TWO_LAYERS)
    return quiet(sweep, {"table": FullBatch(jnp.array(TABLE))}, settings)


def two_linear_layers(l1, steps):
    """Linear, ReLU, Linear, trained by Adam on MSE + l1 * mean activation, in float64.

    Yields the weights (W_enc, b_enc, W_dec, b_dec), activations and the two terms before each step
    and after the last.
    """
    x = TABLE.astype(np.float64)
    start = params.init(key_of(SEED, "init", 5), 3, 5, TWO_LAYERS)[:4]
    weights = [np.float64(a) for a in start]
    m, v = ([np.zeros_like(a) for a in weights] for _ in range(2))
    for t in range(1, steps + 2):
        W_enc, b_enc, W_dec, b_dec = weights
        h = np.maximum(x @ W_enc + b_enc, 0)
        error = h @ W_dec + b_dec - x
        yield weights, h, (error**2).mean(), l1 * h.mean()
        d_x_hat = 2 * error / error.size
        d_pre = (d_x_hat @ W_dec.T + l1 / h.size) * (h > 0)
        gradients = [x.T @ d_pre, d_pre.sum(0), h.T @ d_x_hat, d_x_hat.sum(0)]
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
        v = [0.999 * a + 0.001 * g**2 for a, g in zip(v, gradients, strict=True)]
        moments = zip(weights, m, v, strict=True)
        weights = [
            w - RATE * (a / (1 - 0.9**t)) / (np.sqrt(b / (1 - 0.999**t)) + 1e-8)
            for w, a, b in moments
        ]


@pytest.mark.parametrize("penalty", [0, 1])
def test_full_batches_train_two_linear_layers_as_by_hand(full, penalty):
    l1 = PENALTIES[penalty]
    states = list(two_linear_layers(l1, 8))
    (W_enc, b_enc, W_dec, b_dec), h, _, _ = states[-1]
    assert np.abs(W_dec - states[0][0][2]).max() > 0.1
    assert 0.1 < (h > 0).mean() < 0.9
    params = full.dictionary(l1=l1)
    expected = Params(*(np.asarray(a) for a in (W_enc, b_enc + b_dec @ W_enc, W_dec, b_dec)))  # pyright: ignore
    assert_close(params, expected)
    assert np.abs(b_dec @ W_enc).max() > 0.05, "the two forms of b_enc must differ"
    assert_close(encode(jax.tree.map(jnp.array, params), jnp.array(TABLE)), h)
    for evaluation, (_, _, mse, l1_loss) in enumerate(states[4::4]):
        assert_close(full.history["mse"][evaluation].squeeze()[penalty], mse)
        assert_close(full.history["l1_loss"][evaluation].squeeze()[penalty], l1_loss)
