"""Steps at which dead latents are resampled."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.cells import (
    BATCH,
    D_IN,
    HYPER,
    N_HYPER,
    N_SOURCE,
    at,
    batches,
    group_step,
    run,
    same,
    start,
)

from saejax import Resample, Settings
from saejax.sae.params import Params
from saejax.sae.revival import OFF, ON
from saejax.training.cells import Hyper, init_cells

# ---------------------------------------------------------------------------------------- resample

EVERY = 4


@pytest.fixture(scope="module", params=[1, 4], ids=["map", "vmap"])
def two_cycles(request):
    """Eight steps in which latent j fires exactly when input j is on, with resampling off and on.

    Steps      0 1 2 3   4 5 6 7
    latent 0   on  . .   . . . .     silent in both windows of 2
    latent 1   . . on.   . . . .     silent in the second window
    latent 2   . . . on  . . . .     silent in the second window
    latent 3   . . . .   . . . .     silent throughout
    latent 4   on throughout
    """
    settings = Settings(resample=Resample(every=EVERY, window=2))
    cells = init_cells(jnp.array([1, 2], jnp.uint32), 1, 2, D_IN, D_IN, settings)
    eye = jnp.broadcast_to(jnp.eye(D_IN), cells.params.W_enc.shape)
    params = Params(W_enc=eye, b_enc=jnp.full_like(cells.params.b_enc, -0.2), W_dec=eye)
    cells = cells._replace(params=params)
    on = np.zeros((2 * EVERY, D_IN))
    on[:2, 0] = on[2, 1] = on[3, 2] = on[:, 4] = 1
    strength = np.random.default_rng(0).uniform(0.5, 1, (2 * EVERY, N_SOURCE, BATCH, D_IN))
    x = jnp.array(strength * on[:, None, None], jnp.float32)
    step = group_step(settings, request.param)
    rates = {"l1": jnp.array([0.1, 0.1]), "lr": jnp.array([1e-3, 1e-3]), "k": jnp.zeros(2)}
    off, half = (Hyper(**rates, resample=jnp.array(r)) for r in ([OFF, OFF], [OFF, ON]))
    return run(step, cells, off, x), run(step, cells, half, x), x, settings.resample.bias


def revived(before, after, bias):
    """Mask [source, hyper, latent] of the latents whose bias was set anew."""
    return (np.asarray(after.params.b_enc) == np.float32(bias)) & (
        np.asarray(before.params.b_enc) != np.float32(bias)
    )


def test_resampling_happens_at_multiples_in_cells_with_it_on_to_dead_latents(two_cycles):
    _, states, _, bias = two_cycles
    dead = {EVERY: [0, 3], 2 * EVERY: [1, 2]}
    for done in range(1, 2 * EVERY + 1):
        mask = revived(states[done - 1], states[done], bias)
        expected = np.zeros_like(mask)
        expected[:, 1, dead.get(done, [])] = True
        subset = mask[:, :, [1, 2, 4]] if done > EVERY else mask
        wanted = expected[:, :, [1, 2, 4]] if done > EVERY else expected
        np.testing.assert_array_equal(subset, wanted, err_msg=f"after {done} steps")


def test_resampling_touches_nothing_but_dead_latents(two_cycles):
    off, on, _, _ = two_cycles
    for done in range(EVERY):
        assert same(off[done]._replace(silent=None), on[done]._replace(silent=None))
    for a, b in zip(off, on, strict=True):
        assert same(at(a, slice(None), 0), at(b, slice(None), 0))
    alive = np.array([1, 2, 4])
    a, b = (at(states[EVERY], slice(None), 1) for states in (off, on))
    for pick in (lambda c: c.params, lambda c: c.opt.mu, lambda c: c.opt.nu):
        assert same(jax.tree.map(lambda v: v[..., alive], pick(a)), pick(at(b, ..., alive)))
    assert same(a.opt.count, b.opt.count)


def test_silence_is_counted_in_the_windows_of_cells_with_it_on(two_cycles):
    off, on, _, _ = two_cycles
    counts = {3: [1, 0, 1, 1, 0], 4: [2, 1, 0, 2, 0], 7: [1, 1, 0], 8: [2, 2, 0]}
    for done in range(2 * EVERY + 1):
        assert not np.any(off[done].silent)
        assert not np.any(on[done].silent[:, 0])
        wanted = counts.get(done, counts[4] if done > EVERY else [0] * D_IN)
        # What the revived latents 0 and 3 do from then on depends on the samples they took.
        got = on[done].silent[:, 1]
        got = got[:, np.array([1, 2, 4])] if len(wanted) == 3 else got
        np.testing.assert_array_equal(got, [wanted] * N_SOURCE, err_msg=f"after {done} steps")


def test_revived_latents_point_at_a_sample_and_forget_their_moments(two_cycles):
    _, states, x, bias = two_cycles
    directions = np.asarray(x[EVERY - 1], np.float64)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    cells = states[EVERY]
    for s, j in product(range(N_SOURCE), (0, 3)):
        w_enc, w_dec = (np.asarray(w)[s, 1, :, j] for w in (cells.params.W_enc, cells.params.W_dec))
        np.testing.assert_allclose(w_enc, w_dec, rtol=1e-6)
        assert np.abs(directions[s] - w_dec).max(1).min() < 1e-6
        assert cells.params.b_enc[s, 1, j] == np.float32(bias)
        for moments in (cells.opt.mu, cells.opt.nu):
            assert not np.any(moments.W_enc[s, 1, :, j])
            assert not np.any(moments.W_dec[s, 1, :, j])
            assert moments.b_enc[s, 1, j] == 0


def test_a_frozen_cell_is_not_resampled():
    settings = Settings(resample=Resample(every=1, window=1))
    x = batches(2)
    cells = start(settings, dead=(0, 1))
    cells = cells._replace(frozen_at=cells.frozen_at.at[0, 0].set(3))
    hyper = HYPER._replace(resample=jnp.array([ON, ON, ON]))
    states = run(group_step(settings, 1), cells, hyper, x, first=5)
    assert same(at(states[-1].params, 0, 0), at(cells.params, 0, 0))
    assert same(at(states[-1].opt, 0, 0), at(cells.opt, 0, 0))
    made_dead = revived(cells, states[1], settings.resample.bias)[:, :, :2]
    assert made_dead.sum() == 2 * (N_SOURCE * N_HYPER - 1)
