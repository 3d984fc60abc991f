"""A cell whose weights are no numbers freezes alone."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.cells import HYPER, N_HYPER, N_SOURCE, at, batches, group_step, run, same, start

from saejax import Settings
from saejax.core import linalg
from saejax.results.axes import MAX_LR
from saejax.training.step import MAX_GRADIENT

# ---------------------------------------------------------------------------------------- freeze


@pytest.fixture(scope="module", params=[1, 6], ids=["map", "vmap"])
def plain(request):
    return group_step(Settings(), request.param)


def test_too_large_a_step_freezes_that_cell_alone(plain):
    x = batches(5)
    ok = HYPER._replace(lr=jnp.array([1e-3, 1e-3, 2e-2]))
    bad = HYPER._replace(lr=jnp.array([1e-3, 1e15, 2e-2]))
    healthy, run_with_bad = (run(plain, start(Settings()), h, x, first=20) for h in (ok, bad))
    for s in range(N_SOURCE):
        states = [at(cells, s, 1) for cells in run_with_bad]
        assert [int(c.frozen_at) for c in states] == [-1, -1, 21, 21, 21, 21]
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(states[-1]))
        for later in states[2:]:
            assert same(later._replace(frozen_at=states[1].frozen_at), states[1])
        for h in (0, 2):
            assert all(
                same(at(a, s, h), at(b, s, h)) for a, b in zip(healthy, run_with_bad, strict=True)
            )


def test_adam_moves_no_weight_by_more_than_7_3_rates():
    # Gradients growing by b2 / b1 are the worst case of the Cauchy-Schwarz bound in `MAX_LR`.
    n = 300
    gradients = jnp.array((0.999 / 0.9) ** np.arange(-n, 0.0), jnp.float32)

    def one(state, gradient):
        update, state = optax.scale_by_adam().update(gradient, state)
        return state, update

    # Adam counts on while a revived latent's moments start anew: so late, nothing is corrected.
    fresh = optax.scale_by_adam().init(jnp.float32(0))._replace(count=jnp.int32(100_000))  # pyright: ignore
    for state in (fresh, fresh._replace(count=jnp.int32(0))):
        _, updates = jax.lax.scan(one, state, gradients)
        assert np.abs(updates).max() < 7.3
    _, updates = jax.lax.scan(one, fresh, gradients)
    assert np.abs(updates).max() > 7.2


def test_a_row_moved_at_the_largest_rate_is_still_projected_to_norm_1():
    rows = 1 + 7.3 * MAX_LR * jnp.ones((1, 6_000_000))
    np.testing.assert_allclose(np.linalg.norm(np.float64(linalg.unit_rows(rows))), 1, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6, 1e15])
def test_the_largest_rate_leaves_unit_rows_and_finite_state_or_freezes(plain, scale):
    hyper = HYPER._replace(lr=jnp.full(N_HYPER, MAX_LR))
    states = run(plain, start(Settings()), hyper, batches(12) * scale)
    for cells in states:
        assert all(np.isfinite(a).all() for a in jax.tree.leaves((cells.params, cells.opt)))
        norms = np.linalg.norm(np.float64(cells.params.W_dec), axis=-2)
        np.testing.assert_allclose(norms, 1, rtol=1e-5)
    moved = np.abs(states[1].params.W_enc).max()
    assert (moved > 1e9) == (scale < 1e10)


def test_adam_holds_the_square_of_the_largest_gradient_and_not_of_twice_it():
    adam = optax.scale_by_adam()
    for gradient, finite in ((MAX_GRADIENT, True), (2 * MAX_GRADIENT, False)):
        _, state = adam.update(jnp.float32(gradient), adam.init(jnp.float32(0)))  # pyright: ignore
        assert bool(np.isfinite(state.nu)) == finite  # pyright: ignore


@pytest.mark.parametrize("leaf", ["W_enc", "W_dec"])
def test_a_gradient_whose_square_overflows_freezes_that_cell_alone(plain, leaf):
    x = batches(3)
    cells = start(Settings())
    if leaf == "W_enc":
        x, hyper, broken = (
            x * 1e5,
            HYPER._replace(l1=jnp.array([0.01, 1e18, 1.0])),
            (slice(None), 1),
        )
    else:
        hyper, broken = HYPER, (0, 2)
        b_enc = cells.params.b_enc.at[broken].set(1e11)
        cells = cells._replace(params=cells.params._replace(b_enc=b_enc))
    expected = np.full((N_SOURCE, N_HYPER), -1)
    expected[broken] = 0
    states = run(plain, cells, hyper, x)
    np.testing.assert_array_equal(states[-1].frozen_at, expected)
    assert same(at(states[-1].params, *broken), at(cells.params, *broken))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(states[-1].opt))


def test_infinite_weights_freeze_that_cell_alone(plain):
    x = batches(3)
    cells = start(Settings())
    broken = cells.params.W_enc.at[1, 2, 0, 0].set(jnp.inf)
    bad = cells._replace(params=cells.params._replace(W_enc=broken))
    healthy, run_with_bad = (run(plain, c, HYPER, x, first=7) for c in (cells, bad))
    frozen = np.full((N_SOURCE, N_HYPER), -1)
    frozen[1, 2] = 7
    for state in run_with_bad[1:]:
        np.testing.assert_array_equal(state.frozen_at, frozen)
        last = at(state, 1, 2)
        assert same(last._replace(frozen_at=jnp.int32(-1)), at(bad, 1, 2))
    for s, h in product(range(N_SOURCE), range(N_HYPER)):
        if (s, h) != (1, 2):
            assert same(at(healthy[-1], s, h), at(run_with_bad[-1], s, h))


def test_a_frozen_cell_stays_frozen_when_its_data_recover(plain):
    x = batches(4)
    spoilt = x.at[1, 0, 3, 2].set(jnp.nan)
    healthy, states = (run(plain, start(Settings()), HYPER, b) for b in (x, spoilt))
    np.testing.assert_array_equal(states[-1].frozen_at, [[1] * N_HYPER, [-1] * N_HYPER])
    assert same(at(states[-1].params, 0), at(states[1].params, 0))
    assert same(at(states[-1].opt, 0), at(states[1].opt, 0))
    assert same(at(states[-1], 1), at(healthy[-1], 1))
