"""Resampling: what `revive` changes, leaves and draws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from saejax.sae.params import Params, SAEConfig
from saejax.sae.registry import KINDS
from saejax.sae.revival import ANTHROPIC, ON, REVIVALS, Resample, revive

BATCH, D_IN, D_SAE, L1 = 8, 4, 6, 0.5
RULE = Resample(every=10, window=5, bias=-0.25)
DEAD = np.array([True, False, False, True, True, False])
WITH_B_DEC = SAEConfig("sum", use_b_dec=True)
each_b_dec = pytest.mark.parametrize("use_b_dec", [False, True])
each_way = pytest.mark.parametrize("way", [ON, ANTHROPIC], ids=[REVIVALS[ON], REVIVALS[ANTHROPIC]])
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


def losses(params, x, config, l1=L1):
    """Every sample's part of the objective, by hand."""
    W_enc, b_enc, W_dec = (np.float64(a) for a in params[:3])
    c = centred(params, x)
    h = np.maximum(c @ W_enc + b_enc, 0)
    sparsity = h.mean(1) if config.l1_reduction == "mean" else h.sum(1)
    return ((h @ W_dec - c) ** 2).mean(1) + l1 * sparsity


def shares(params, x, config, way, l1=L1):
    """The probability with which each sample is drawn first."""
    weights = losses(params, x, config, l1) ** (2 if way == ANTHROPIC else 1)
    return weights / weights.sum()


def taken(W_dec, params, x):
    """Which sample each row of W_dec points at; each points at exactly one."""
    same = np.abs(np.asarray(W_dec)[..., None, :] - unit_directions(params, x)).max(-1) < 1e-5
    assert (same.sum(-1) == 1).all()
    return same.argmax(-1)


def draw(n, params, state, x, config, way, l1=L1, dead=DEAD, among=slice(None)):
    """The samples that the dead latents take with each of n keys, [n, number of dead].

    Args:
        among: samples that may be drawn; the result is their places there.
    """

    def one(key):
        revived, _ = revive(key, params, state, jnp.array(dead), x, l1, config, RULE, revival=way)
        return revived.W_dec

    W_dec = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), n)))
    assert np.isfinite(W_dec).all()
    return taken(W_dec[:, dead], params, x[among])


# --- what changes ------------------------------------------------------------------------------


@each_way
@each_b_dec
def test_living_latents_stay_as_they_are(use_b_dec, way):
    params, state, x = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    new, new_state = run(
        jax.random.key(0), params, state, jnp.array(DEAD), x, L1, config, RULE, revival=way
    )
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


@each_way
@each_b_dec
def test_dead_latents_take_the_direction_of_a_sample_and_forget_their_moments(use_b_dec, way):
    params, state, x = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    new, new_state = run(
        jax.random.key(0), params, state, jnp.array(DEAD), x, L1, config, RULE, revival=way
    )
    columns = np.float64(params.W_enc)[:, ~DEAD]
    scale, bias = 1.0, -0.25
    if way == ANTHROPIC:
        scale, bias = 0.2 * np.sqrt((columns**2).sum(0)).mean(), 0.0
    assert len(taken(new.W_dec[DEAD], params, x)) == 3
    np.testing.assert_allclose(np.linalg.norm(np.float64(new.W_dec)[DEAD], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(new.W_enc[:, DEAD].T, scale * np.asarray(new.W_dec[DEAD]), rtol=1e-6)
    np.testing.assert_array_equal(new.b_enc[DEAD], np.full(3, bias))
    for moments in (new_state.mu, new_state.nu):
        assert not np.any(moments.W_enc[:, DEAD])
        assert not np.any(moments.b_enc[DEAD])
        assert not np.any(moments.W_dec[DEAD])


def test_the_way_is_on_where_none_is_named():
    rest = (*make(True)[:2], jnp.array(DEAD), make(True)[2], L1, WITH_B_DEC, RULE)
    plain, named = (run(jax.random.key(0), *rest, **way) for way in ({}, {"revival": ON}))
    jax.tree.map(np.testing.assert_array_equal, plain, named)


def test_where_nobody_is_alive_anthropics_columns_are_0_2_long():
    params, state, x = make(True)
    everyone = jnp.ones(D_SAE, bool)
    new, _ = run(
        jax.random.key(0), params, state, everyone, x, L1, WITH_B_DEC, RULE, revival=ANTHROPIC
    )
    np.testing.assert_allclose(np.linalg.norm(np.float64(new.W_enc), axis=0), 0.2, rtol=1e-6)


@each_way
@each_b_dec
def test_nothing_dead_changes_nothing(use_b_dec, way):
    params, state, x = make(use_b_dec)
    config = SAEConfig(use_b_dec=use_b_dec)
    nobody = jnp.zeros(D_SAE, bool)
    after = run(jax.random.key(0), params, state, nobody, x, L1, config, RULE, revival=way)
    jax.tree.map(np.testing.assert_array_equal, after, (params, state))


@each_way
def test_where_more_are_dead_than_samples_may_be_drawn_the_rest_stays_as_it_was(way):
    d_sae, alive, left_out = 12, 4, [1, 6]
    params, state, x = make(True, d_sae)
    x = x.at[jnp.array(left_out)].set(params.b_dec)
    dead = np.arange(d_sae) != alive
    new, new_state = run(
        jax.random.key(0), params, state, jnp.array(dead), x, L1, WITH_B_DEC, RULE, revival=way
    )
    first, kept = np.flatnonzero(dead)[: BATCH - 2], np.delete(np.arange(BATCH), left_out)
    rest = np.setdiff1d(np.arange(d_sae), first)
    assert sorted(taken(new.W_dec[first], params, x[kept])) == list(range(BATCH - 2))
    pairs = [(new, params), (new_state.mu, state.mu), (new_state.nu, state.nu)]
    for after, before in pairs:
        np.testing.assert_array_equal(after.W_enc[:, rest], before.W_enc[:, rest])
        np.testing.assert_array_equal(after.b_enc[rest], before.b_enc[rest])
        np.testing.assert_array_equal(after.W_dec[rest], before.W_dec[rest])
    if way == ANTHROPIC:  # of which those that wait are no part
        scale = 0.2 * np.linalg.norm(np.float64(params.W_enc)[:, alive])
        norms = np.linalg.norm(np.float64(new.W_enc)[:, first], axis=0)
        np.testing.assert_allclose(norms, scale, rtol=1e-6)


# --- what is drawn -----------------------------------------------------------------------------

N_KEYS = 20_000


@each_way
@pytest.mark.parametrize(
    ("reduction", "use_b_dec"), [("mean", False), ("mean", True), ("sum", False)]
)
def test_the_first_draw_has_the_probability_of_the_loss_or_its_square(reduction, use_b_dec, way):
    params, state, x = make(use_b_dec)
    config = SAEConfig(reduction, use_b_dec=use_b_dec)
    first = draw(N_KEYS, params, state, x, config, way)[:, 0]
    counts = np.bincount(first, minlength=BATCH)
    p, q = (shares(params, x, config, w) for w in (way, ON + ANTHROPIC - way))
    assert stats.chisquare(counts, N_KEYS * p).pvalue > 1e-3
    for other in (q, np.full(BATCH, 1 / BATCH)):
        assert stats.chisquare(counts, N_KEYS * other).pvalue < 1e-9, "too alike to tell apart"


def decoded(h, params, x):
    """The squared error of each sample, by hand."""
    return ((h @ np.float64(params.W_dec) - centred(params, x)) ** 2).mean(1)


@each_way
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["jumprelu", "gated"])
def test_the_loss_of_a_sample_has_its_architectures_own_penalty(kind, reduction, way):
    own, l1 = KINDS[kind](), 4.0
    params, state, x = make(True)
    config = SAEConfig(reduction, use_b_dec=True)
    pre = centred(params, x) @ np.float64(params.W_enc) + np.float64(params.b_enc)
    if kind == "jumprelu":
        params = params._replace(log_threshold=jnp.full(D_SAE, jnp.log(0.5)))
        h = np.where(pre > 0.5, pre, 0)
        penalty = (h > 0).sum(1)
    else:
        params = params._replace(r_mag=jnp.full(D_SAE, 0.5), b_mag=jnp.full(D_SAE, 1.0))
        mag = (pre - np.float64(params.b_enc)) * np.exp(0.5) + 1.0
        h = np.where(pre > 0, np.maximum(mag, 0), 0)
        penalty = np.maximum(pre, 0).sum(1)
    state = state._replace(mu=params, nu=params)
    scale = 1 / D_SAE if reduction == "mean" else 1

    def one(key):
        dead = jnp.array(DEAD)
        new, _ = revive(
            key, params, state, dead, x, l1, config, RULE, revival=way, architecture=own
        )
        return new.W_dec

    W_dec = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), N_KEYS)))
    counts = np.bincount(taken(W_dec[:, DEAD][:, :1], params, x)[:, 0], minlength=BATCH)

    def share(penalty):
        p = (decoded(h, params, x) + l1 * scale * penalty) ** (2 if way == ANTHROPIC else 1)
        return N_KEYS * p / p.sum()

    assert stats.chisquare(counts, share(penalty)).pvalue > 1e-3
    assert stats.chisquare(counts, share(h.sum(1))).pvalue < 1e-9, "too alike to tell apart"


@each_way
def test_the_second_draw_is_from_the_shares_of_the_samples_that_are_left(way):
    params, state, x = make(True)
    drawn = draw(N_KEYS, params, state, x, WITH_B_DEC, way)
    p = shares(params, x, WITH_B_DEC, way)
    pairs = p[:, None] * p / (1 - p[:, None])
    np.fill_diagonal(pairs, 0)
    counts = np.zeros((BATCH, BATCH))
    np.add.at(counts, (drawn[:, 0], drawn[:, 1]), 1)
    off_diagonal = ~np.eye(BATCH, dtype=bool)
    expected = N_KEYS * pairs[off_diagonal]
    common = expected > 5
    assert common.sum() > 20
    observed = np.append(counts[off_diagonal][common], counts[off_diagonal][~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    enough = wanted > 0
    assert stats.chisquare(observed[enough], wanted[enough]).pvalue > 1e-3


@each_way
def test_no_two_latents_get_the_same_sample(way):
    params, state, x = make(True)
    drawn = draw(N_KEYS, params, state, x, WITH_B_DEC, way, dead=np.ones(D_SAE, bool))
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()


@each_way
def test_a_sample_equal_to_b_dec_is_never_drawn(way):
    params, state, x = make(True)
    left_out = [0, 3, 7]
    x = x.at[jnp.array(left_out)].set(params.b_dec)
    assert losses(params, x, WITH_B_DEC)[left_out].min() > 0
    kept = np.delete(np.arange(BATCH), left_out)
    drawn = draw(N_KEYS, params, state, x, WITH_B_DEC, way, among=kept)
    p = shares(params, x, WITH_B_DEC, way)[kept]
    counts = np.bincount(drawn[:, 0], minlength=len(kept))
    assert stats.chisquare(counts, N_KEYS * p / p.sum()).pvalue > 1e-3


def identity(d_sae=D_SAE):
    """An SAE that reconstructs every x above 0."""
    eye = jnp.zeros((D_IN, d_sae)).at[:, :D_IN].set(jnp.eye(D_IN))
    return Params(eye, jnp.zeros(d_sae), eye.T)


@each_way
def test_a_batch_explained_perfectly_is_drawn_from_evenly(way):
    _, state, x = make(False)
    x = jnp.abs(x).at[2].set(0.0)
    params, config, dead = identity(), SAEConfig(), np.arange(D_SAE) >= D_IN
    assert not losses(params, x, config, l1=0).any()
    kept = np.delete(np.arange(BATCH), 2)
    drawn = draw(N_KEYS, params, state, x, config, way, 0.0, dead, kept)
    assert stats.chisquare(np.bincount(drawn[:, 0], minlength=len(kept))).pvalue > 1e-3


@each_way
def test_samples_explained_perfectly_are_not_drawn_beside_others(way):
    _, state, x = make(False, 9)
    x = jnp.abs(x).at[jnp.array([1, 5])].multiply(-1.0)  # these two are not explained at all
    params, config, dead = identity(9), SAEConfig(), np.arange(9) >= D_IN
    new, new_state = run(
        jax.random.key(0), params, state, jnp.array(dead), x, 0.0, config, RULE, revival=way
    )
    assert {*taken(new.W_dec[D_IN : D_IN + 2], params, x)} == {1, 5}
    np.testing.assert_array_equal(new.W_dec[D_IN + 2 :], params.W_dec[D_IN + 2 :])
    np.testing.assert_array_equal(new_state.mu.W_dec[D_IN + 2 :], state.mu.W_dec[D_IN + 2 :])


def test_losses_whose_square_float32_cannot_hold_are_drawn_by_their_square():
    params, state, x = make(False)
    params, x = params._replace(b_enc=jnp.zeros(D_SAE)), x * 1e15
    config = SAEConfig("sum")
    weights = losses(params, x, config, 0.0)
    assert weights.min() ** 2 > np.finfo(np.float32).max
    first = draw(N_KEYS, params, state, x, config, ANTHROPIC, 0.0)[:, 0]
    p = shares(params, x, config, ANTHROPIC, 0.0)
    assert stats.chisquare(np.bincount(first, minlength=BATCH), N_KEYS * p).pvalue > 1e-3


@each_way
def test_key_decides_the_draw(way):
    params, state, x = make(True)
    rest = params, state, jnp.ones(D_SAE, bool), x, L1, WITH_B_DEC, RULE
    (a, _), (again, _), (other, _) = (run(jax.random.key(k), *rest, revival=way) for k in (0, 0, 1))
    np.testing.assert_array_equal(a.W_dec, again.W_dec)
    assert np.any(np.asarray(a.W_dec) != np.asarray(other.W_dec))


def test_vmap_over_cells_of_both_ways_is_each_alone():
    cells = [make(True, seed=seed) for seed in range(4)]
    keys, ways = jax.random.split(jax.random.key(0), 4), jnp.array([ON, ANTHROPIC, ANTHROPIC, ON])
    dead = jnp.array([DEAD, ~DEAD, DEAD, DEAD & False])
    params, state, x = jax.tree.map(lambda *a: jnp.stack(a), *cells)

    def one(key, params, state, dead, x, way):
        return revive(key, params, state, dead, x, L1, WITH_B_DEC, RULE, "highest", way)

    mapped = jax.jit(jax.vmap(one))(keys, params, state, dead, x, ways)
    for i, (params, state, x) in enumerate(cells):
        way = int(ways[i])
        alone = run(keys[i], params, state, dead[i], x, L1, WITH_B_DEC, RULE, revival=way)
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), own, alone)
