"""What decoder rows do to the logits: against NumPy one latent at a time, and against the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.interpret.effects import BLOCK, token_effects
from saejax.lm.model import GPTConfig, init_gpt, unembed

CONFIG = GPTConfig(37, context=5, n_layers=1, d_model=8, d_mlp=10, n_heads=2)
D, VOCAB = CONFIG.d_model, CONFIG.vocab_size


@pytest.fixture(scope="module")
def model():
    """Fresh weights moved away from their start: a scale of LayerNorm that is not 1, a bias not
    0."""
    leaves, tree = jax.tree.flatten(init_gpt(CONFIG, jax.random.key(0)))
    rng = np.random.default_rng(0)
    moved = [a + jnp.array(rng.normal(0, 0.5, a.shape), a.dtype) for a in leaves]
    return jax.tree.unflatten(tree, moved)


def rows(n):
    return np.random.default_rng(1).normal(size=(n, D)).astype(np.float32)


def change(model, w):
    """What one row does to the logits, in float64."""
    scale, wte = np.float64(model.ln_f.scale[...]), np.float64(model.wte.embedding[...])
    w = np.float64(w)
    logits = np.array([sum((w - w.mean()) * scale * token) for token in wte])
    return logits - logits.mean()


@pytest.mark.parametrize("n", [1, BLOCK, BLOCK + 3])
def test_effects_are_those_of_numpy_one_latent_at_a_time(model, n):
    k, bins, W_dec = 4, 6, rows(n)
    got = token_effects(model, W_dec, k, bins)
    assert [a.shape for a in got] == [(n, k)] * 4 + [(n, bins), (n, 2)]
    for i in {0, n // 2, n - 1}:
        logits = change(model, W_dec[i])
        order = np.argsort(logits)
        assert got.promoted[i].tolist() == order[::-1][:k].tolist()
        assert got.suppressed[i].tolist() == order[:k].tolist()
        np.testing.assert_allclose(got.gains[i], logits[order[::-1][:k]], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.losses[i], logits[order[:k]], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.span[i], [logits.min(), logits.max()], rtol=1e-4)
        assert got.histogram[i].tolist() == np.histogram(logits, bins)[0].tolist()
    assert (got.histogram.sum(1) == VOCAB).all()


@pytest.mark.parametrize("bins", [1, 2, 50])
def test_every_token_is_in_one_bin(model, bins):
    W_dec = rows(5)
    got = token_effects(model, W_dec, 1, bins)
    for counts, w in zip(got.histogram, W_dec, strict=True):
        assert counts.tolist() == np.histogram(change(model, w), bins)[0].tolist()


def test_a_direction_that_layer_norm_takes_out_changes_nothing(model):
    W_dec = np.stack([np.ones(D, np.float32), np.zeros(D, np.float32)])
    got = token_effects(model, W_dec, 2, 4)
    np.testing.assert_array_equal(got.span, 0)
    np.testing.assert_array_equal(got.gains, 0)
    assert got.histogram.sum(1).tolist() == [VOCAB, VOCAB]


def test_more_tokens_than_there_are_are_all_of_them(model):
    got = token_effects(model, rows(2), VOCAB + 5)
    assert got.promoted.shape == (2, VOCAB)
    assert got.promoted[0].tolist() == got.suppressed[0, ::-1].tolist()
    assert sorted(got.promoted[1].tolist()) == list(range(VOCAB))


def test_adding_a_row_to_the_last_residual_stream_moves_the_logits_that_way(model):
    """With the length that LayerNorm divides by held where it was, and then not."""
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=D).astype(np.float32), rows(1)[0]
    got = token_effects(model, w[None], VOCAB)
    effect = np.zeros(VOCAB)
    effect[got.promoted[0]] = got.gains[0]
    length = np.sqrt(np.var(x) + CONFIG.layer_norm_eps)
    scale, bias, wte = (
        np.float64(a[...]) for a in (model.ln_f.scale, model.ln_f.bias, model.wte.embedding)
    )

    def frozen(x):
        return ((x - x.mean()) / length * scale + bias) @ wte.T

    np.testing.assert_allclose(
        unembed(model, jnp.asarray(x)[None])[0], frozen(x), rtol=1e-4, atol=1e-4
    )
    for eps in (0.01, 3):
        moved = frozen(np.float64(x) + eps * w) - frozen(np.float64(x))
        moved -= moved.mean()
        np.testing.assert_allclose(moved, eps * effect / length, rtol=1e-4, atol=1e-4 * eps)
    # The change of the length is a multiple of the normalised stream: the rest is the row's alone.
    _, slope = jax.jvp(lambda x: unembed(model, x[None])[0], (jnp.asarray(x),), (jnp.asarray(w),))
    own = (x - x.mean()) / length * scale @ wte.T
    shortened = np.float64((x - x.mean()) @ w) / D / length**2
    slope, own = slope - slope.mean(), own - own.mean()
    np.testing.assert_allclose(slope, effect / length - shortened * own, rtol=1e-3, atol=1e-3)


def test_rows_of_another_width_than_the_stream_are_refused(model):
    message = r"^W_dec: got rows of 9 numbers, allowed: the residual stream's 8"
    with pytest.raises(ValueError, match=message):
        token_effects(model, np.ones((3, 9), np.float32))
