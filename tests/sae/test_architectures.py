"""Every architecture against NumPy by hand, autodiff and closed forms."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.one_sae import BATCH, CONFIG, D_IN, D_SAE, K, X, by_hand, swept, weights

from saejax import SAEConfig
from saejax.sae import relu
from saejax.sae.params import standard
from saejax.sae.registry import KINDS, BatchTopK, Gated, JumpReLU, ReLU, TopK
from saejax.sae.topk import RATE, keep_of_batch, keep_of_samples, near_half

LAYERS = SAEConfig(use_b_dec=True, apply_b_dec_to_input=False, l1_reduction="sum")


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_by_hand(kind):
    params = weights(kind)
    h = KINDS[kind]().encode(params, X, K, CONFIG)
    np.testing.assert_allclose(h, by_hand(kind, params, X), atol=2e-6)
    assert 0 < np.mean(np.asarray(h) > 0) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_sae_is_written_for_inputs_less_b_dec(kind):
    params = weights(kind)
    whole = standard(params, LAYERS)
    own, got = (KINDS[kind]().encode(p, X, K, c) for p, c in ((params, LAYERS), (whole, CONFIG)))
    np.testing.assert_allclose(got, own, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [CONFIG, LAYERS])
def test_the_loss_is_the_papers_and_mse_the_whole_reconstruction(kind, config):
    """Of the trained SAE's activations, but where a batch decides what is kept."""
    params, own = weights(kind), KINDS[kind]()
    loss = own.loss(params, X, swept(kind), config)
    centred = standard(params, config)
    h = by_hand(kind, centred, X)
    if kind in ("batchtopk", "matryoshka"):
        h = by_hand("relu", centred, X)
        h = np.where(h >= np.sort(h.ravel())[-K * BATCH], h, 0)
    W_dec, b_dec, x = np.float64(params.W_dec), np.float64(params.b_dec), np.float64(X)
    scale = 1 / D_SAE if config.l1_reduction == "mean" else 1
    mse = np.mean((h @ W_dec + b_dec - x) ** 2)
    total = mse
    if kind == "relu":
        total = mse + 0.1 * scale * h.sum(1).mean()
    elif kind == "jumprelu":
        total = mse + 0.1 * scale * (h > 0).sum(1).mean()
    elif kind == "gated":
        gate = by_hand("relu", centred, X)
        total = mse + 0.1 * scale * gate.sum(1).mean() + np.mean((gate @ W_dec + b_dec - x) ** 2)
    elif kind == "matryoshka":
        sizes = own.sizes(D_SAE)
        assert sizes == (1, 2, 5, 10)
        total = sum(np.mean((h[:, :m] @ W_dec[:m] + b_dec - x) ** 2) for m in sizes)
    np.testing.assert_allclose(loss.mse, mse, rtol=2e-6)
    np.testing.assert_allclose(loss.total, total, rtol=2e-6)


def relaxed(kind, params, x, config):
    """The loss with choices held fixed and gradients stopped as the papers do, for autodiff."""
    own = KINDS[kind]()
    pre = relu.preactivation(params, x, config)
    kept = jax.lax.stop_gradient(own._keep(None)(jax.nn.relu(pre), jnp.float32(K))) > 0
    h = jnp.where(kept, pre, 0.0)
    if kind == "matryoshka":
        parts = [h[:, :m] @ params.W_dec[:m] + params.b_dec for m in own.sizes(D_SAE)]
        return sum(jnp.mean((part - x) ** 2) for part in parts)
    return jnp.mean((relu.decode(params, h) - x) ** 2)


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "matryoshka"])
@pytest.mark.parametrize("config", [CONFIG, LAYERS])
def test_what_is_kept_has_the_gradient_of_a_relu_and_the_choice_none(kind, config):
    params, own = weights(kind), KINDS[kind]()
    got = jax.grad(lambda p: own.loss(p, X, swept(kind), config).total)(params)
    expected = jax.grad(lambda p: relaxed(kind, p, X, config))(params)
    for name, a in got._asdict().items():
        if a is not None:
            np.testing.assert_allclose(a, getattr(expected, name), atol=2e-6, err_msg=name)
    assert not np.any(got.threshold or 0)


def test_jumprelu_has_the_papers_pseudo_derivatives():
    """Everything by hand: the kernel counts samples within half a bandwidth of a threshold."""
    own, params = JumpReLU(bandwidth=0.5), weights("jumprelu")
    got = jax.grad(lambda p: own.loss(p, X, swept("jumprelu"), CONFIG).total)(params)
    p = {name: np.float64(a) for name, a in params._asdict().items() if a is not None}
    x = np.float64(X) - p["b_dec"]
    pre, theta = x @ p["W_enc"] + p["b_enc"], np.exp(p["log_threshold"])
    h = np.where(pre > theta, pre, 0)
    error = h @ p["W_dec"] + p["b_dec"] - np.float64(X)
    d_h = 2 / (BATCH * D_IN) * error @ p["W_dec"].T
    near = (np.abs(pre - theta) < 0.25) / 0.5
    assert 5 < (near > 0).sum() < near.size / 2
    d_theta = (-theta * near * d_h).sum(0) - 0.1 / D_SAE / BATCH * near.sum(0)
    np.testing.assert_allclose(got.log_threshold, d_theta * theta, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.b_enc, (d_h * (pre > theta)).sum(0), atol=2e-6)
    np.testing.assert_allclose(got.W_dec, 2 / (BATCH * D_IN) * h.T @ error, atol=2e-6)


def test_the_gates_own_error_leaves_the_decoder_alone_and_the_penalty_the_magnitudes():
    own, params = Gated(), weights("gated")

    def gradient(l1):
        return jax.grad(lambda p: own.loss(p, X, swept("gated", l1), CONFIG).total)(params)

    free, penalised = gradient(0.0), gradient(10.0)
    pre = relu.preactivation(params, X, CONFIG)
    h = own.activate(params, pre, 0)
    error = relu.decode(params, h) - X
    # Of the decoder the gradient is that of the reconstruction alone.
    np.testing.assert_allclose(free.W_dec, 2 / (BATCH * D_IN) * h.T @ error, atol=2e-6)
    for name in ("W_dec", "b_mag", "r_mag"):
        np.testing.assert_allclose(getattr(free, name), getattr(penalised, name), atol=2e-6)
    pull = 10.0 / D_SAE * np.mean(np.asarray(pre) > 0, 0)
    np.testing.assert_allclose(penalised.b_enc - free.b_enc, pull, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "matryoshka"])
def test_auxk_gives_dead_latents_an_encoder_gradient_and_the_others_none(kind):
    own = replace(KINDS[kind](), aux_k=3)
    params = weights(kind)
    dead = jnp.arange(D_SAE) < 4
    # No ReLU would let these through.
    params = params._replace(b_enc=jnp.where(dead, -50.0, params.b_enc))
    assert not np.any(np.asarray(own.encode(params, X, K, CONFIG))[:, :4])
    plain = jax.grad(lambda p: own.loss(p, X, swept(kind), CONFIG).total)(params)
    assert not np.any(plain.W_enc[:, :4])
    got = own.dead_gradient(params, dead, X, swept(kind), CONFIG)
    for gradient in (got.W_enc.T, got.W_dec, got.b_enc):
        moved = np.abs(np.asarray(gradient)).reshape(D_SAE, -1).max(1)
        assert (moved[:4] > 1e-6).all()
        assert not moved[4:].any()


def test_auxk_by_hand():
    own, params = TopK(aux_k=2, aux_coefficient=0.5), weights("topk")
    dead = np.arange(D_SAE) % 2 == 0
    got = own.dead_gradient(params, jnp.array(dead), X, swept("topk"), CONFIG)
    p = {name: np.float64(a) for name, a in params._asdict().items() if a is not None}
    x = np.float64(X) - p["b_dec"]
    pre = x @ p["W_enc"] + p["b_enc"]
    error = np.float64(X) - (by_hand("topk", params, X) @ p["W_dec"] + p["b_dec"])
    z = np.zeros_like(pre)
    for row, values in enumerate(np.where(dead, pre, -np.inf)):
        best = np.argsort(-values)[:2]
        z[row, best] = pre[row, best]
    d_hat = 0.5 * 2 / (BATCH * D_IN) * (z @ p["W_dec"] - error)
    d_z = np.where(z != 0, d_hat @ p["W_dec"].T, 0)
    np.testing.assert_allclose(got.W_dec, z.T @ d_hat, atol=2e-6)
    np.testing.assert_allclose(got.b_enc, d_z.sum(0), atol=2e-6)
    np.testing.assert_allclose(got.W_enc, x.T @ d_z, atol=2e-6)


def test_fewer_dead_latents_than_auxk_asks_for_are_all_taken_and_none_gives_no_gradient():
    own, params = TopK(aux_k=8), weights("topk")
    few = own.dead_gradient(params, jnp.arange(D_SAE) < 2, X, swept("topk"), CONFIG)
    assert np.any(few.W_enc[:, 0])
    assert not np.any(few.W_enc[:, 2:])
    none = own.dead_gradient(params, jnp.zeros(D_SAE, bool), X, swept("topk"), CONFIG)
    assert all(not np.any(a) for a in none if a is not None)


@pytest.mark.parametrize(("d_in", "expected"), [(1, 1), (2, 1), (6, 4), (32, 16), (768, 512)])
def test_auxk_is_the_power_of_two_next_to_half_the_inputs(d_in, expected):
    # The paper takes 512 for GPT-2's 768.
    assert near_half(d_in) == expected


@pytest.mark.parametrize("k", [1, 4, D_SAE])
@pytest.mark.parametrize("most", [0, D_SAE, 12])
def test_a_traced_k_keeps_what_a_known_one_does(k, most):
    h = jax.nn.relu(jax.random.normal(jax.random.key(0), (5, D_SAE)))
    if most == 12 and k > 4:
        most = k
    traced = jax.jit(partial(keep_of_samples, most=most))(h, jnp.float32(k))
    np.testing.assert_array_equal(traced, keep_of_samples(h, k))
    rank = np.argsort(np.argsort(-np.asarray(h), axis=1), axis=1)
    np.testing.assert_array_equal(traced, np.where(rank < k, h, 0))


@pytest.mark.parametrize("k", [1, 3, 9])
def test_of_a_batch_the_border_is_exact_to_the_bit(k):
    h = np.array(jax.nn.relu(jax.random.normal(jax.random.key(1), (33, 9))) * 1e-3)
    h[0, :3] = 1e-38, 3e38, 1.0
    # Two neighbouring floats at the border are told apart.
    ordered = np.sort(h.ravel())[::-1]
    got = np.asarray(keep_of_batch(jnp.array(h), jnp.float32(k)))
    np.testing.assert_array_equal(got, np.where(h >= ordered[k * 33 - 1], h, 0))


def test_where_less_is_active_than_k_everything_is_kept():
    h = jnp.zeros((4, 5)).at[0, 0].set(2.0)
    np.testing.assert_array_equal(keep_of_batch(h, 3), h)
    np.testing.assert_array_equal(keep_of_samples(h, 3), h)


def test_the_threshold_is_the_running_mean_of_the_smallest_activation_kept():
    own, params = BatchTopK(), weights("batchtopk")
    first = params._replace(threshold=jnp.float32(0))
    loss = own.loss(first, X, swept("batchtopk"), CONFIG)
    kept = np.asarray(own._keep(None)(relu.encode(first, X, CONFIG), K))
    smallest = kept[kept > 0].min()
    assert np.count_nonzero(kept) == K * BATCH
    np.testing.assert_allclose(own.settle(first, loss).threshold, smallest)
    later = own.settle(first._replace(threshold=jnp.float32(2.0)), loss).threshold
    np.testing.assert_allclose(later, 2 + RATE * (smallest - 2), rtol=1e-6)
    silent = loss._replace(least=jnp.float32(jnp.inf))
    np.testing.assert_array_equal(own.settle(params, silent).threshold, params.threshold)


def test_all_start_from_the_same_directions_and_a_gated_one_as_a_relu():
    key = jax.random.key(3)
    first = ReLU().init(key, D_IN, D_SAE, CONFIG)
    for kind in KINDS.values():
        params = kind().init(key, D_IN, D_SAE, CONFIG)
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            np.testing.assert_array_equal(getattr(params, name), getattr(first, name))
    h = Gated().encode(Gated().init(key, D_IN, D_SAE, CONFIG), X, 0, CONFIG)
    np.testing.assert_allclose(h, ReLU().encode(first, X, 0, CONFIG), atol=1e-6)
