"""One SAE against NumPy float64 by hand, and its written-out gradient against plain autodiff."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy import stats

from saejax.core.linalg import unit_rows
from saejax.sae.params import Params, SAEConfig, init, project, standard
from saejax.sae.relu import decode, encode, mse_and_sparsity, objective

pytestmark = pytest.mark.usefixtures("optimised")
BATCH, D_IN, D_SAE, L1 = 7, 4, 6, 0.3
CONFIGS = [SAEConfig(r, use_b_dec=b) for r in ("mean", "sum") for b in (False, True)]
PLAIN = SAEConfig(use_b_dec=True, unit_norm=False, init="linear", apply_b_dec_to_input=False)
each_config = pytest.mark.parametrize(
    "config",
    [*CONFIGS, PLAIN],
    ids=lambda c: (
        "plain" if c is PLAIN else f"{c.l1_reduction}-{'b_dec' if c.use_b_dec else 'none'}"
    ),
)
static = functools.partial(jax.jit, static_argnums=0)


def make(config, seed=0):
    """Random weights and a batch, float32 values; some latents are silent on some samples."""
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (D_IN, D_SAE), "b_enc": (D_SAE,), "W_dec": (D_SAE, D_IN)}
    if config.use_b_dec:
        shapes["b_dec"] = (D_IN,)
    params = Params(**{k: jnp.array(rng.normal(size=s), jnp.float32) for k, s in shapes.items()})
    return params, jnp.array(rng.normal(size=(BATCH, D_IN)), jnp.float32)


def by_hand(params, x, config):
    """Activations, reconstructions, mse and sparsity in float64, one number at a time."""
    W_enc, b_enc, W_dec = (np.float64(a) for a in params[:3])
    x = np.float64(x)
    b_dec = np.zeros(D_IN) if params.b_dec is None else np.float64(params.b_dec)
    h, x_hat = np.zeros((BATCH, D_SAE)), np.zeros((BATCH, D_IN))
    for s in range(BATCH):
        for j in range(D_SAE):
            seen = x[s] - b_dec if config.apply_b_dec_to_input else x[s]
            h[s, j] = max(0.0, sum(seen * W_enc[:, j]) + b_enc[j])
        x_hat[s] = sum(h[s, j] * W_dec[j] for j in range(D_SAE)) + b_dec
    mse = sum((x_hat[s, i] - x[s, i]) ** 2 for s in range(BATCH) for i in range(D_IN))
    activation = sum(sum(h[s]) for s in range(BATCH)) / BATCH
    sparsity = activation / D_SAE if config.l1_reduction == "mean" else activation
    return h, x_hat, mse / (BATCH * D_IN), sparsity


def naive(config, params, x):
    """The two terms as one would write them for autodiff."""
    b_dec = 0.0 if params.b_dec is None else params.b_dec
    seen = x - b_dec if config.apply_b_dec_to_input else x
    h = jnp.maximum(seen @ params.W_enc + params.b_enc, 0.0)
    x_hat = h @ params.W_dec + b_dec
    each = h.mean(-1) if config.l1_reduction == "mean" else h.sum(-1)
    return ((x_hat - x) ** 2).mean(), each.mean()


def assert_close(got, want, tolerance=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), got, want)


# --- values ------------------------------------------------------------------------------------


@each_config
def test_encode_decode_and_objective_by_hand(config):
    params, x = make(config)
    h, x_hat, mse, sparsity = by_hand(params, x, config)
    assert 0.2 < (h > 0).mean() < 0.8
    assert_close(encode(params, x, config), h)
    assert_close(encode(standard(params, config), x), h)
    assert_close(decode(params, jnp.array(h, jnp.float32)), x_hat, 5e-6)
    assert_close(mse_and_sparsity(config, "highest", params, x), (mse, sparsity))
    assert_close(objective(params, x, L1, config), mse + L1 * sparsity)


def test_bf16_rounds_the_operands_of_every_product():
    params, x = make(CONFIGS[1], 2)
    W_enc, b_enc, W_dec, b_dec = (np.float64(a) for a in params[:4])

    def rounded(a):
        return np.asarray(a, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)

    pre = rounded(x) @ rounded(W_enc) + (b_enc - rounded(b_dec) @ rounded(W_enc))
    h = encode(params, x, CONFIGS[1], "bf16")
    assert_close(h, np.maximum(pre, 0))
    assert_close(decode(params, h, "bf16"), rounded(h) @ rounded(W_dec) + b_dec)


# --- gradient ----------------------------------------------------------------------------------


@static
def written_gradient(config, params, x, l1):
    return jax.grad(objective, (0, 1, 2))(params, x, l1, config)


@static
def naive_gradient(config, params, x, l1):
    def loss(params, x, l1):
        mse, sparsity = naive(config, params, x)
        return mse + l1 * sparsity

    return jax.grad(loss, (0, 1, 2))(params, x, l1)


@each_config
def test_gradient_of_the_objective(config):
    params, x = make(config)
    args = config, params, x, jnp.float32(L1)
    assert_close(written_gradient(*args), naive_gradient(*args))


@each_config
@pytest.mark.parametrize("cotangents", [(1.0, 0.0), (0.0, 1.0), (-0.5, 2.0)])
def test_gradient_of_each_term(config, cotangents):
    params, x = make(config, 3)
    cotangents = tuple(map(jnp.float32, cotangents))
    _, pull_back = jax.vjp(lambda *a: mse_and_sparsity(config, "highest", *a), params, x)
    _, pull_back_naive = jax.vjp(lambda *a: naive(config, *a), params, x)
    assert_close(pull_back(cotangents), pull_back_naive(cotangents))


@each_config
def test_gradient_under_vmap_over_cells_that_share_a_batch(config):
    cells = [make(config, seed)[0] for seed in range(3)]
    x, l1 = make(config)[1], jnp.array([0.0, 0.1, 1.0])
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *cells)
    mapped = jax.jit(jax.vmap(lambda p, l1: written_gradient(config, p, x, l1)))(stacked, l1)
    for i, params in enumerate(cells):
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        assert_close(own, naive_gradient(config, params, x, l1[i]))


def test_gradient_of_a_silent_sae_is_that_of_its_bias_alone():
    params, x = make(CONFIGS[3])
    params = params._replace(b_enc=jnp.full(D_SAE, -100.0))
    grads, d_x, _ = written_gradient(CONFIGS[3], params, x, jnp.float32(L1))
    error = np.float64(params.b_dec) - np.float64(x)
    assert_close(grads.b_dec, 2 * error.mean(0) / D_IN)
    assert_close(d_x, -2 * error / (BATCH * D_IN))
    assert not any(np.any(g) for g in grads[:3])


@each_config
def test_coefficient_of_libraries_that_sum_the_squared_error(config):
    params, x = make(config, 4)
    theirs = L1 * D_IN / (D_SAE if config.l1_reduction == "mean" else 1)

    def other_library(params):
        b_dec = 0.0 if params.b_dec is None else params.b_dec
        seen = x - b_dec if config.apply_b_dec_to_input else x
        h = jnp.maximum(seen @ params.W_enc + params.b_enc, 0.0)
        squared = ((h @ params.W_dec + b_dec - x) ** 2).sum(-1)
        return (squared + theirs * h.sum(-1)).mean()

    ours, *_ = written_gradient(config, params, x, jnp.float32(L1))
    assert_close(jax.grad(other_library)(params), jax.tree.map(lambda g: g * D_IN, ours), 5e-6)


# --- initialisation ----------------------------------------------------------------------------


@pytest.mark.parametrize(("d_in", "d_sae"), [(9, 4), (6, 6), (6, 9)])
@pytest.mark.parametrize("use_b_dec", [False, True])
def test_init_shapes_and_unit_rows(d_in, d_sae, use_b_dec):
    params = init(jax.random.key(0), d_in, d_sae, SAEConfig(use_b_dec=use_b_dec))
    assert params.W_enc.shape == (d_in, d_sae)
    assert params.b_enc.shape == (d_sae,)
    assert params.W_dec.shape == (d_sae, d_in)
    if use_b_dec:
        np.testing.assert_array_equal(params.b_dec, np.zeros(d_in))
    else:
        assert params.b_dec is None
    assert_close((np.float64(params.W_dec) ** 2).sum(1), np.ones(d_sae))


def test_init_encoder_is_uniform_within_its_bound():
    d_in = 25
    params = init(jax.random.key(1), d_in, 400, SAEConfig())
    for a in (params.W_enc, params.b_enc):
        assert np.abs(a).max() <= 0.2
        assert stats.kstest(np.ravel(a), stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("d_in", "d_sae"), [(9, 4), (6, 6)])
def test_init_rows_are_orthonormal_where_they_fit(d_in, d_sae):
    W = np.float64(init(jax.random.key(2), d_in, d_sae, SAEConfig()).W_dec)
    np.testing.assert_allclose(W @ W.T, np.eye(d_sae), atol=1e-6)


def test_init_columns_were_orthonormal_before_the_rows_were_scaled():
    """Some row scales s make sum_j s_j^2 w_j w_j^T = 1: 21 equations for 9 unknowns."""
    W = np.float64(init(jax.random.key(2), 6, 9, SAEConfig()).W_dec)
    outer = np.einsum("ji,jk->ikj", W, W).reshape(36, 9)
    squared_scales, *_ = np.linalg.lstsq(outer, np.eye(6).ravel())
    np.testing.assert_allclose(outer @ squared_scales, np.eye(6).ravel(), atol=1e-6)
    assert (squared_scales > 0).all()


@pytest.mark.parametrize("unit_norm", [False, True])
def test_a_linear_decoder_starts_as_in_torch(unit_norm):
    config = SAEConfig(use_b_dec=True, unit_norm=unit_norm, init="linear")
    params = init(jax.random.key(3), 300, 100, config)
    assert params.b_dec is not None
    for a, bound in ((params.W_enc, 300**-0.5), (params.b_dec, 0.1), (params.W_dec, 0.1)):
        if a is params.W_dec and unit_norm:
            assert_close((np.float64(a) ** 2).sum(1), np.ones(100))
            continue
        assert np.abs(a).max() <= bound
        assert stats.kstest(np.ravel(a), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert init(jax.random.key(3), 4, 3, SAEConfig(init="linear")).b_dec is None


@pytest.mark.parametrize("use_b_dec", [False, True])
def test_tied_weights_are_unit_rows_their_transpose_and_the_center(use_b_dec):
    config, center = SAEConfig(use_b_dec=use_b_dec, init="tied"), jnp.arange(3.0)
    params = init(jax.random.key(4), 3, 2000, config, center)
    np.testing.assert_array_equal(params.W_enc, params.W_dec.T)
    np.testing.assert_array_equal(params.b_enc, np.zeros(2000))
    assert_close((np.float64(params.W_dec) ** 2).sum(1), np.ones(2000))
    # A coordinate of a point that is uniform on the sphere in three dimensions is uniform.
    assert stats.kstest(np.ravel(params.W_dec[:, 0]), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    if not use_b_dec:
        assert params.b_dec is None
        return
    np.testing.assert_array_equal(params.b_dec, center)
    np.testing.assert_array_equal(init(jax.random.key(4), 3, 5, config).b_dec, np.zeros(3))


def test_standard_changes_the_encoder_bias_alone_and_only_where_the_encoder_sees_x():
    params, _ = make(CONFIGS[1])
    assert standard(params, CONFIGS[1]) is params
    bare, _ = make(CONFIGS[0])
    assert standard(bare, SAEConfig(apply_b_dec_to_input=False)) is bare
    stacked = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    once, twice = (standard(p, PLAIN) for p in (params, stacked))
    assert_close(once.b_enc, params.b_enc + np.float64(params.b_dec) @ np.float64(params.W_enc))
    assert_close(twice.b_enc[0], once.b_enc)
    for name in ("W_enc", "W_dec", "b_dec"):
        np.testing.assert_array_equal(getattr(once, name), getattr(params, name))


def test_init_is_decided_by_the_key():
    a, again, other = (init(jax.random.key(k), 6, 9, SAEConfig()) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, again)
    assert all(np.any(p != q) for p, q in zip(a[:3], other[:3], strict=True))


# --- projection --------------------------------------------------------------------------------


def test_unit_rows_keep_their_direction_and_a_zero_row_stays_zero():
    rows = np.random.default_rng(0).normal(size=(2, 3, 4)) * [[[1e-3]], [[1e3]]]
    rows[1, 2] = 0
    got = unit_rows(jnp.array(rows, jnp.float32))
    norms = np.sqrt((rows**2).sum(-1, keepdims=True))
    norms[1, 2] = 1
    np.testing.assert_allclose(got, rows / norms, atol=1e-6)


def test_project_gives_unit_rows_and_touches_nothing_else():
    params, _ = make(CONFIGS[1])
    once = project(params, SAEConfig(use_b_dec=True))
    W = np.float64(params.W_dec)
    assert_close(once.W_dec, W / np.sqrt((W**2).sum(1, keepdims=True)))
    for name in ("W_enc", "b_enc", "b_dec"):
        np.testing.assert_array_equal(getattr(once, name), getattr(params, name))
    assert_close(project(once, SAEConfig()).W_dec, once.W_dec, 1.2e-7)


def test_project_is_off_without_unit_norm():
    params, _ = make(CONFIGS[1])
    jax.tree.map(np.testing.assert_array_equal, project(params, SAEConfig(unit_norm=False)), params)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-10, 1e10])
def test_unit_rows_are_never_longer_than_one(size):
    norm = np.linalg.norm(np.asarray(unit_rows(jnp.full((1, 4), size))))
    assert norm <= 1 + 1e-6
    assert size < 1e-15 or norm > 1 - 1e-6
