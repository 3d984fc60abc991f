"""Resampling: what `revive` changes and what it leaves, what it draws, when `observe` looks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from saejax.resample import Resample, observe, revive
from saejax.sae import STANDARD, Params, SAEConfig

BATCH, D_IN, D_SAE, L1 = 8, 4, 6, 0.5
RULE = Resample(every=10, window=5, bias=-0.25)
DEAD = np.array([True, False, False, True, True, False])
each_b_dec = pytest.mark.parametrize("use_b_dec", [False, True])
run = jax.jit(revive, static_argnames=("config", "rule", "precision"))


def make(use_b_dec, d_sae=D_SAE, seed=0):
    """Random weights, moments and a batch."""
    rng = np.random.default_rng(seed)

    def leaves():
        shapes = [(D_IN, d_sae), (d_sae,), (d_sae, D_IN), (D_IN,)][: 3 + use_b_dec]
        return Params(*(jnp.array(rng.normal(size=s), jnp.float32) for s in shapes))

    state = optax.ScaleByAdamState(jnp.array(7, jnp.int32), leaves(), leaves())
    return leaves(), state, jnp.array(rng.normal(size=(BATCH, D_IN)), jnp.float32)


def centred(params, x):
    return np.float64(x) - (0 if params.b_dec is None else np.float64(params.b_dec))


def unit_directions(params, x):
    c = centred(params, x)
    return c / np.sqrt((c**2).sum(1, keepdims=True))


def shares(params, x, config):
    """Every sample's part of the objective, by hand."""
    W_enc, b_enc, W_dec = (np.float64(a) for a in params[:3])
    c = centred(params, x)
    h = np.maximum(c @ W_enc + b_enc, 0)
    sparsity = h.mean(1) if config.l1_reduction == "mean" else h.sum(1)
    return ((h @ W_dec - c) ** 2).mean(1) + L1 * sparsity


def count_drawn(new, dead, params, x):
    """How many of the revived latents took each sample; every one took exactly one."""
    same = np.abs(np.asarray(new.W_dec)[dead][:, None] - unit_directions(params, x)).max(-1) < 1e-5
    assert (same.sum(1) == 1).all()
    return same.sum(0)


# --- what changes ------------------------------------------------------------------------------


@each_b_dec
def test_living_latents_stay_as_they_are(use_b_dec):
    params, state, x = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    new, new_state = run(jax.random.key(0), params, state, jnp.array(DEAD), x, L1, config, RULE)
    pairs = [(new, params), (new_state.mu, state.mu), (new_state.nu, state.nu)]
    for after, before in pairs:
        np.testing.assert_array_equal(after.W_enc[:, ~DEAD], before.W_enc[:, ~DEAD])
        np.testing.assert_array_equal(after.b_enc[~DEAD], before.b_enc[~DEAD])
        np.testing.assert_array_equal(after.W_dec[~DEAD], before.W_dec[~DEAD])
        if use_b_dec:
            np.testing.assert_array_equal(after.b_dec, before.b_dec)
        else:
            assert after.b_dec is None
    assert new_state.count == state.count


@each_b_dec
def test_dead_latents_take_the_direction_of_a_sample(use_b_dec):
    params, state, x = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    new, new_state = run(jax.random.key(0), params, state, jnp.array(DEAD), x, L1, config, RULE)
    np.testing.assert_array_equal(new.W_enc[:, DEAD].T, new.W_dec[DEAD])
    np.testing.assert_allclose(np.linalg.norm(np.float64(new.W_dec)[DEAD], axis=1), 1, atol=1e-6)
    assert count_drawn(new, DEAD, params, x).sum() == 3
    np.testing.assert_array_equal(new.b_enc[DEAD], np.full(3, -0.25))
    for moments in (new_state.mu, new_state.nu):
        assert not np.any(moments.W_enc[:, DEAD])
        assert not np.any(moments.b_enc[DEAD])
        assert not np.any(moments.W_dec[DEAD])


@each_b_dec
def test_nothing_dead_changes_nothing(use_b_dec):
    params, state, x = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    nobody = jnp.zeros(D_SAE, bool)
    after = run(jax.random.key(0), params, state, nobody, x, L1, config, RULE)
    jax.tree.map(np.testing.assert_array_equal, after, (params, state))


# --- what is drawn -----------------------------------------------------------------------------

MANY = 2000


@pytest.mark.parametrize(("reduction", "use_b_dec"), [("mean", False), ("mean", True), ("sum", False)])
def test_samples_are_drawn_in_proportion_to_their_share_of_the_objective(reduction, use_b_dec):
    params, state, x = make(use_b_dec, MANY)
    params = params._replace(W_dec=params.W_dec / MANY)
    config = SAEConfig(reduction, use_b_dec=use_b_dec)
    dead = np.ones(MANY, bool)
    new, _ = run(jax.random.key(1), params, state, jnp.array(dead), x, L1, config, RULE)
    weights = shares(params, x, config)
    drawn = count_drawn(new, dead, params, x)
    assert stats.chisquare(drawn, MANY * weights / weights.sum()).pvalue > 1e-3
    assert stats.chisquare(drawn).pvalue < 1e-3, "shares too equal to tell from a uniform draw"


def test_a_sample_equal_to_b_dec_is_never_drawn():
    params, state, x = make(True, MANY)
    x = x.at[jnp.array([0, 3, 7])].set(params.b_dec)
    config = SAEConfig("sum", use_b_dec=True)
    weights = shares(params, x, config)
    assert weights[[0, 3, 7]].min() > 0
    dead = jnp.ones(MANY, bool)
    new, _ = run(jax.random.key(1), params, state, dead, x, L1, config, RULE)
    assert np.isfinite(np.asarray(new.W_dec)).all()
    np.testing.assert_allclose(np.linalg.norm(np.float64(new.W_dec), axis=1), 1, atol=1e-6)
    assert stats.chisquare(*expected_without(params, x, new, weights, [0, 3, 7])).pvalue > 1e-3


def expected_without(params, x, new, weights, left_out):
    """Counts of the samples that may be drawn, and what they should be."""
    kept = np.setdiff1d(np.arange(BATCH), left_out)
    drawn = count_drawn(new, np.ones(MANY, bool), params, x[kept])
    return drawn, MANY * weights[kept] / weights[kept].sum()


def test_a_batch_explained_perfectly_is_drawn_from_evenly():
    _, state, x = make(False, MANY)
    x = jnp.abs(x).at[2].set(0.0)
    eye = jnp.zeros((D_IN, MANY)).at[:, :D_IN].set(jnp.eye(D_IN))
    params = Params(eye, jnp.zeros(MANY), eye.T)
    dead = np.arange(MANY) >= D_IN
    new, _ = run(jax.random.key(1), params, state, jnp.array(dead), x, 0.0, SAEConfig(), RULE)
    kept = np.delete(np.arange(BATCH), 2)
    assert stats.chisquare(count_drawn(new, dead, params, x[kept])).pvalue > 1e-3


def test_key_decides_the_draw():
    params, state, x = make(True, MANY)
    rest = params, state, jnp.ones(MANY, bool), x, L1, SAEConfig("sum", use_b_dec=True), RULE
    (a, _), (again, _), (other, _) = (run(jax.random.key(k), *rest) for k in (0, 0, 1))
    np.testing.assert_array_equal(a.W_dec, again.W_dec)
    assert np.any(np.asarray(a.W_dec) != np.asarray(other.W_dec))


def test_vmap_over_cells_is_each_alone():
    cells = [make(True, seed=seed) for seed in range(3)]
    keys, config = jax.random.split(jax.random.key(0), 3), SAEConfig(use_b_dec=True)
    dead = jnp.array([DEAD, ~DEAD, DEAD & False])
    params, state, x = jax.tree.map(lambda *a: jnp.stack(a), *cells)
    f = functools.partial(revive, l1=L1, config=config, rule=RULE)
    mapped = jax.jit(jax.vmap(f))(keys, params, state, dead, x)
    for i, (params, state, x) in enumerate(cells):
        alone = run(keys[i], params, state, dead[i], x, L1, config, RULE)
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), own, alone)


# --- when it looks -----------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "window"), [(5, 3), (5, 5), (4, 1), (1, 1), (12, None)])
def test_observe_keeps_the_highest_activation_of_the_open_window(every, window):
    rule = Resample(every=every, window=window)
    params, _, _ = make(True)
    look = jax.jit(
        lambda highest, x, step: observe(highest, params, x, step, STANDARD, rule, "highest")
    )
    rng = np.random.default_rng(1)
    W_enc, b_enc = np.float64(params.W_enc), np.float64(params.b_enc)
    highest, seen = jnp.zeros(D_SAE), []
    for step in range(3 * every):
        x = jnp.array(rng.normal(size=(2, D_IN)), jnp.float32)
        h = np.maximum(centred(params, x) @ W_enc + b_enc, 0).max(0)
        position = step % every
        if position == 0:
            seen = []
        if position >= every - (window or 10):
            seen.append(h)
        highest = look(highest, x, jnp.array(step, jnp.int32))
        expected = np.max(seen, axis=0) if seen else np.zeros(D_SAE)
        np.testing.assert_allclose(highest, expected, atol=2e-6)
        assert bool(rule.is_due(jnp.array(step + 1))) == (position == every - 1)


def test_observe_forgets_what_came_before_its_window():
    rule = Resample(every=4, window=2)
    params, _, x = make(False)
    stale = jnp.full(D_SAE, 1e6)
    for step, kept in ((0, False), (1, False), (2, False), (3, True), (6, False), (7, True)):
        out = observe(stale, params, x, jnp.array(step, jnp.int32), STANDARD, rule, "highest")
        assert (np.asarray(out) == 1e6).all() == kept


# --- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": -1}, r"^resample_every: got -1, allowed: 0 \(never\) or more"),
        ({"every": 5, "window": 0}, r"^resample window: got 0, allowed: 1 to resample_every=5"),
        ({"every": 5, "window": 6}, r"^resample window: got 6, allowed: 1 to resample_every=5"),
        ({"threshold": -0.1}, r"^resample threshold: got -0.1, allowed: 0 or more"),
        ({"threshold": float("nan")}, r"^resample threshold: got nan, allowed: 0 or more"),
    ],
)
def test_bad_argument_is_named_with_what_is_allowed(unchecked, arguments, message):
    with pytest.raises(ValueError, match=message):
        Resample(**arguments)


def test_window_is_free_where_nothing_is_resampled():
    assert Resample(every=0, window=10).every == 0
    assert Resample(every=10, window=10).window == 10
