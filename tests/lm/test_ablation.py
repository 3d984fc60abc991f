"""Firing frequencies and ablations of single latents, against one forward pass at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.lm.ablation import latent_effects, read, reconstructed
from saejax.lm.model import GPTConfig, forward, init_gpt
from saejax.sae.params import Params
from saejax.sae.relu import encode

HOOK = "blocks.0.mlp.hook_post"
CONFIG = GPTConfig(32, context=6, n_layers=2, d_model=8, d_mlp=10, n_heads=2)
N, D_SAE = 9, 5


@pytest.fixture(scope="module")
def model():
    fresh = init_gpt(CONFIG, jax.random.key(0))
    leaves, tree = jax.tree.flatten(fresh)
    rng = np.random.default_rng(0)
    moved = [a + jnp.array(rng.normal(0, 0.5, a.shape), a.dtype) for a in leaves]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module")
def reading(model):
    windows = np.random.default_rng(1).integers(0, 32, (N, CONFIG.context + 1))
    return read(model, jnp.asarray(windows, jnp.uint16), HOOK, batch_size=4)


@pytest.fixture(scope="module")
def latents(reading):
    """The first latent never fires, the second in one window, the others here and there."""
    rng = np.random.default_rng(2)
    W_enc = rng.normal(size=(10, D_SAE)).astype(np.float32)
    b_dec = rng.normal(size=10).astype(np.float32)
    pre = (np.asarray(reading.x) - b_dec) @ W_enc
    highest = pre.max((0, 1))
    second = np.sort(pre[..., 1].max(1))[-2]
    b_enc = np.array([-highest[0] - 1, -(highest[1] + second) / 2, 0, 0.5, -0.5], np.float32)
    W_dec = 0.7 * rng.normal(size=(D_SAE, 10)).astype(np.float32)
    return Params(*map(jnp.asarray, (W_enc, b_enc, W_dec, b_dec)))


def test_a_reading_is_the_forward_pass(model, reading):
    logits, found = jax.jit(forward, static_argnames="read")(
        model, reading.windows[:, :-1], (HOOK,)
    )
    np.testing.assert_allclose(reading.x, found[HOOK], rtol=1e-5, atol=1e-6)
    p = jax.nn.log_softmax(logits)
    expected = -jnp.take_along_axis(p, reading.windows[:, 1:, None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(reading.losses, expected, rtol=1e-4, atol=1e-5)


def test_losses_and_frequencies_of_reconstructions(model, reading, latents):
    h = np.maximum((np.float64(reading.x) - latents.b_dec) @ latents.W_enc + latents.b_enc, 0)
    losses, frequency = reconstructed(model, reading, HOOK, latents, batch_size=4)
    np.testing.assert_allclose(frequency, (h > 0).mean((0, 1)), rtol=1e-6)
    assert frequency[0] == 0
    assert 0 < frequency[1] <= 6 / 54
    x_hat = jnp.asarray(h @ latents.W_dec + latents.b_dec, jnp.float32)
    for window, x, loss in zip(reading.windows, x_hat, losses, strict=True):
        p = np.asarray(predictions(model, window, x))
        expected = -np.take_along_axis(p, np.asarray(window[1:, None], int), -1).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@jax.jit
def predictions(model, window, x):
    return jax.nn.log_softmax(forward(model, window[:-1], replace={HOOK: x})[0])


def divergence(model, window, x, changed):
    """Sum over positions of KL(p, p'), from two plain forward passes in float64."""
    p, q = (np.float64(predictions(model, window, a)) for a in (x, changed))
    return (np.exp(p) * (p - q)).sum()


def test_effects_are_divergences_per_firing(model, reading, latents):
    """All windows, so that nothing is left to chance."""
    got = latent_effects(model, reading, HOOK, latents, jax.random.key(3), n_windows=N)
    h = encode(latents, reading.x.reshape(-1, 10)).reshape(N, 6, D_SAE)
    for part in got[:3]:
        assert np.isnan(part[0])
    np.testing.assert_array_equal(got.firings, (h > 0).sum((0, 1)))
    for j in range(1, D_SAE):
        total = sum(
            divergence(model, window, x, x - jnp.outer(acts[:, j], latents.W_dec[j]))
            for window, x, acts in zip(reading.windows, reading.x, h, strict=True)
        )
        np.testing.assert_allclose(got.effect[j], total / got.firings[j], rtol=1e-3, atol=1e-6)


def test_windows_are_drawn_from_those_in_which_a_latent_fires(model, reading, latents):
    h = np.asarray(encode(latents, reading.x.reshape(-1, 10))).reshape(N, 6, D_SAE)
    counts = (h > 0).sum(1)
    firings = []
    for k in range(20):
        got = latent_effects(model, reading, HOOK, latents, jax.random.key(k), n_windows=1)
        firings.append(np.asarray(got.firings))
        # The one window of the second latent is found every time, and the first has none.
        assert (firings[-1] > 0).tolist() == [False, True, True, True, True]
    for j in range(2, D_SAE):
        seen = {f[j] for f in firings}
        assert seen <= {*counts[:, j]}
        assert len(seen) > 1


def test_controls_have_the_norm_of_the_latent_and_directions_of_their_own(model, reading, latents):
    """A decoder of length 0 has no effect, nor have its controls."""
    key = jax.random.key(5)
    full, none = (
        latent_effects(model, reading, HOOK, latents._replace(W_dec=W_dec), key, n_windows=N)
        for W_dec in (latents.W_dec, 0 * latents.W_dec)
    )
    live = slice(1, None)
    for part in none[:3]:
        np.testing.assert_allclose(part[live], 0, atol=1e-6)
    for i in range(3):
        assert (full[i][live] > 1e-5).all()
        assert (np.abs(full[i] - full[i - 1])[live] > 1e-5).all()
    other = latent_effects(model, reading, HOOK, latents, jax.random.key(6), n_windows=N)
    assert (np.abs(other.control[live] - full.control[live]) > 1e-5).all()
    np.testing.assert_allclose(other.effect[live], full.effect[live], rtol=1e-4)


def test_controls_grow_with_the_norm_of_the_latent(model, reading, latents):
    """A small change of the prediction costs in proportion to its square."""
    key = jax.random.key(7)
    one, two = (
        latent_effects(
            model, reading, HOOK, latents._replace(W_dec=s * latents.W_dec), key, n_windows=N
        )
        for s in (jnp.float32(0.05), jnp.float32(0.1))
    )
    for a, b in zip(one[:3], two[:3], strict=True):
        np.testing.assert_allclose(b[1:] / a[1:], 4, rtol=0.12)
