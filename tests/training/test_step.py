"""Steps of a group of cells against plain loops and NumPy."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.cells import HYPER, N_HYPER, N_SOURCE, at, batches, group_step, source_keys, start

from saejax import Resample, SAEConfig, Settings
from saejax.sae.params import Params
from saejax.sae.revival import OFF
from saejax.training.cells import Cells, Hyper, transpose_decoder
from saejax.training.map_cells import map_cells
from saejax.training.step import resample_cell, step_cell

# ---------------------------------------------------------------------------------------- map


@pytest.mark.parametrize("given_buffers", [False, True])
@pytest.mark.parametrize(("n_source", "n_hyper"), [(2, 3), (3, 2)])
def test_map_equals_a_loop_for_every_cell_batch(n_source, n_hyper, given_buffers):
    n = n_source * n_hyper
    a = np.arange(n * 4, dtype=np.float32).reshape(n_source, n_hyper, 4)
    parts = np.arange(n_source * 2, dtype=np.float32).reshape(n_source, 2) + 1
    l1 = np.arange(n_hyper, dtype=np.float32) + 2
    hyper = Hyper(
        jnp.array(l1), jnp.array(l1 * 10), jnp.array(l1 > 2, jnp.int32), jnp.array(l1 + 7)
    )

    def f(cell, hyper, part):
        number = jnp.where(hyper.resample == 1, cell[0].astype(jnp.int32), -1)
        return {
            "sum": cell * hyper.l1 + part.sum(),
            "pair": (hyper.lr + part[1], number),
            "k": hyper.k,
        }

    total = np.zeros((n_source, n_hyper, 4), np.float32)
    pair = np.zeros((n_source, n_hyper), np.float32), np.zeros((n_source, n_hyper), np.int32)
    for s, h in product(range(n_source), range(n_hyper)):
        total[s, h] = a[s, h] * l1[h] + parts[s].sum()
        pair[0][s, h] = 10 * l1[h] + parts[s][1]
        pair[1][s, h] = a[s, h, 0] if l1[h] > 2 else -1
    expected = {"sum": total, "pair": pair, "k": np.broadcast_to(l1 + 7, (n_source, n_hyper))}

    into = None
    if given_buffers:
        into = jax.tree.map(lambda e: jnp.full(e.shape, 99, e.dtype), expected)
    for cell_batch in range(1, n + 2):
        got = jax.jit(partial(map_cells, f, cell_batch=cell_batch))(
            jnp.array(a), hyper, jnp.array(parts), into=into
        )
        jax.tree.map(np.testing.assert_array_equal, got, expected)


# ---------------------------------------------------------------------------------------- step


def numpy_step(p, mu, nu, count, x, l1, lr, config):
    """One step in float64: forward, gradient, Adam and projection, each as the textbook has it."""
    batch, d_in = x.shape
    d_sae = len(p["b_enc"])
    b_dec = p.get("b_dec", np.zeros(d_in))
    pre = (x - b_dec) @ p["W_enc"] + p["b_enc"]
    h = np.maximum(pre, 0)
    error = h @ p["W_dec"] + b_dec - x
    scale = 1 / d_sae if config.l1_reduction == "mean" else 1.0

    d_x_hat = 2 * error / (batch * d_in)
    d_pre = (d_x_hat @ p["W_dec"].T + l1 * scale / batch) * (pre > 0)
    grads = {"W_enc": (x - b_dec).T @ d_pre, "b_enc": d_pre.sum(0), "W_dec": h.T @ d_x_hat}
    if "b_dec" in p:
        grads["b_dec"] = d_x_hat.sum(0) - (d_pre @ p["W_enc"].T).sum(0)

    t = count + 1
    new, new_mu, new_nu = {}, {}, {}
    for name, g in grads.items():
        new_mu[name] = 0.9 * mu[name] + 0.1 * g
        new_nu[name] = 0.999 * nu[name] + 0.001 * g**2
        m_hat, v_hat = new_mu[name] / (1 - 0.9**t), new_nu[name] / (1 - 0.999**t)
        new[name] = p[name] - lr * m_hat / (np.sqrt(v_hat) + 1e-8)
    if config.unit_norm:
        new["W_dec"] /= np.sqrt((new["W_dec"] ** 2).sum(1, keepdims=True))
    return new, new_mu, new_nu


@cache
def jitted_step(config):
    return jax.jit(partial(step_cell, settings=Settings(sae=config)))


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("use_b_dec", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("count", [0, 3])
def test_one_step_is_adam_on_the_gradient_by_hand(reduction, use_b_dec, unit_norm, count):
    config = SAEConfig(l1_reduction=reduction, use_b_dec=use_b_dec, unit_norm=unit_norm)
    rng = np.random.default_rng(3)
    d_in, d_sae, batch, l1, lr = 5, 7, 11, 0.07, 0.02
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in)}
    shapes |= {"b_dec": (d_in,)} if use_b_dec else {}
    p, mu, nu = ({k: rng.normal(size=s) * 0.5 for k, s in shapes.items()} for _ in range(3))
    p["W_dec"] /= np.linalg.norm(p["W_dec"], axis=1, keepdims=True)
    mu = {k: v * 0.1 * (count > 0) for k, v in mu.items()}
    nu = {k: v**2 * 0.1 * (count > 0) for k, v in nu.items()}
    x = rng.normal(size=(batch, d_in))

    def stored(tree):
        return transpose_decoder(Params(**{k: jnp.array(v, jnp.float32) for k, v in tree.items()}))

    opt = optax.ScaleByAdamState(jnp.array(count, jnp.int32), stored(mu), stored(nu))  # pyright: ignore
    cell = Cells(stored(p), opt, jnp.array(-1, jnp.int32), None)
    hyper = Hyper(jnp.float32(l1), jnp.float32(lr), jnp.int32(OFF), jnp.float32(0))
    after = jitted_step(config)(cell, hyper, jnp.array(x, jnp.float32), jnp.int32(count))

    expected = numpy_step(p, mu, nu, count, x, l1, lr, config)
    for got, want in zip((after.params, after.opt.mu, after.opt.nu), expected, strict=True):
        for name, value in want.items():
            mine = getattr(transpose_decoder(got), name)
            np.testing.assert_allclose(mine, value, rtol=2e-4, atol=2e-6, err_msg=name)
    assert int(after.opt.count) == count + 1
    assert int(after.frozen_at) == -1


RULE = Resample(every=3, window=2)
REVIVING = Settings(resample=RULE)


@pytest.fixture(scope="module")
def three_steps_of_single_cells():
    x = batches(3)
    one = jax.jit(partial(step_cell, settings=REVIVING))
    revive = jax.jit(partial(resample_cell, settings=REVIVING))
    out = {}
    for s, h in product(range(N_SOURCE), range(N_HYPER)):
        cell, hyper = at(start(REVIVING, dead=(2, 5)), s, h), at(HYPER, h)
        for i in range(3):
            cell = one(cell, hyper, x[i, s], jnp.int32(i))
        out[s, h] = revive(cell, hyper, x[2, s], source_keys(2)[s])
    return out


@pytest.mark.parametrize("cell_batch", [1, 2, 6])
def test_group_equals_a_loop_over_single_cells(cell_batch, three_steps_of_single_cells):
    x = batches(3)
    step = group_step(REVIVING, cell_batch)
    cells = start(REVIVING, dead=(2, 5))
    into = jax.tree.map(lambda a: jnp.full_like(a, 99), cells)
    for i in range(3):
        cells = step(cells, into, HYPER, x[i], source_keys(i), jnp.int32(i))
    for (s, h), alone in three_steps_of_single_cells.items():
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), at(cells, s, h), alone
        )
