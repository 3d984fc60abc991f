"""What `observe` counts of silent latents, and when it looks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saejax.sae import revival
from saejax.sae.params import Params, SAEConfig
from saejax.sae.revival import ANTHROPIC, AUXK, GHOST, OFF, ON, REVIVALS, Resample, observe

BATCH, D_IN, D_SAE, L1 = 8, 4, 6, 0.5
WITH_B_DEC = SAEConfig("sum", use_b_dec=True)
each_way = pytest.mark.parametrize("way", [ON, ANTHROPIC], ids=[REVIVALS[ON], REVIVALS[ANTHROPIC]])


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


def identity(d_sae=D_SAE):
    """An SAE that reconstructs every x above 0."""
    eye = jnp.zeros((D_IN, d_sae)).at[:, :D_IN].set(jnp.eye(D_IN))
    return Params(eye, jnp.zeros(d_sae), eye.T)


# --- what it counts, and when it looks ---------------------------------------------------------


def counted(rule, way, monkeypatch, steps, first=0, config=WITH_B_DEC):
    """Counts after every step of `observe`, and by hand, and in which steps it encoded the
    batch."""
    looked, step_of = [], {"now": 0}
    encode = revival.encode

    def spy(*args):
        jax.debug.callback(lambda _: looked.append(step_of["now"]), args[1].sum())
        return encode(*args)

    monkeypatch.setattr(revival, "encode", spy)
    params, _, _ = make(True)
    params = params._replace(b_enc=params.b_enc.at[0].set(-50.0))  # a latent that never fires
    look = jax.jit(lambda silent, x, step: observe(silent, way, params, x, step, config, rule))
    rng = np.random.default_rng(1)
    W_enc, b_enc = np.float64(params.W_enc), np.float64(params.b_enc)
    silent, by_hand, got, want = jnp.zeros(D_SAE, jnp.int32), np.zeros(D_SAE, int), [], []
    for step in range(first, first + steps):
        step_of["now"] = step
        x = jnp.array(rng.normal(size=(2, D_IN)), jnp.float32)
        fires = (np.maximum(centred(params, x) @ W_enc + b_enc, 0) > rule.threshold).any(0)
        in_window = rule.every and step % rule.every >= rule.every - rule.window_steps
        if way in (ON, ANTHROPIC) and in_window:
            if step % rule.every == rule.every - rule.window_steps:
                by_hand = np.zeros(D_SAE, int)
            by_hand = np.where(fires, 0, by_hand + 1)
        elif (way == GHOST and rule.ghost_after) or (way == AUXK and rule.aux_after):
            by_hand = np.where(fires, 0, by_hand + 1)
        silent = look(silent, x, jnp.array(step, jnp.int32))
        jax.effects_barrier()
        got.append(np.asarray(silent))
        want.append(by_hand)
    return np.array(got), np.array(want), looked


@pytest.mark.parametrize("threshold", [0.0, 1.5])
@pytest.mark.parametrize(("every", "window"), [(5, 3), (5, 5), (4, 1), (1, 1), (12, None)])
@each_way
def test_resampled_cells_count_in_the_windows_alone(way, every, window, threshold, monkeypatch):
    rule = Resample(every=every, window=window, threshold=threshold, ghost_after=2)
    got, want, looked = counted(rule, way, monkeypatch, 3 * every)
    np.testing.assert_array_equal(got, want)
    assert looked == [s for s in range(3 * every) if s % every >= every - (window or 10)]
    ends = got[every - 1 :: every]
    assert (ends[:, 0] == rule.window_steps).all()  # who was silent throughout is known by that
    assert ends.max() == rule.window_steps


@pytest.mark.parametrize("threshold", [0.0, 1.5])
@pytest.mark.parametrize("every", [0, 4])
@pytest.mark.parametrize(("way", "after"), [(GHOST, "ghost_after"), (AUXK, "aux_after")])
def test_ghost_and_auxk_cells_count_all_steps(way, after, every, threshold, monkeypatch):
    rule = Resample(every=every, threshold=threshold, **{after: 3})
    got, want, looked = counted(rule, way, monkeypatch, 12)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got[:, 0], np.arange(1, 13))
    assert looked == list(range(12))
    assert (got[:, 1:] == 0).any()
    assert (got[:, 1:] > 0).any()


@pytest.mark.parametrize(
    ("way", "rule"),
    [
        (OFF, Resample(every=4, window=2, ghost_after=3, aux_after=2)),
        (ON, Resample(ghost_after=3, aux_after=2)),
        (ANTHROPIC, Resample(ghost_after=3, aux_after=2)),
        (GHOST, Resample(every=4, window=2, aux_after=2)),
        (AUXK, Resample(every=4, window=2, ghost_after=3)),
    ],
    ids=REVIVALS,
)
def test_cells_that_need_no_counts_compute_nothing(way, rule, monkeypatch):
    got, _, looked = counted(rule, way, monkeypatch, 9)
    assert not got.any()
    assert looked == []


@each_way
def test_a_window_forgets_what_was_counted_before_it(way):
    rule = Resample(every=4, window=2)
    params, _, x = make(False)
    params = params._replace(b_enc=jnp.full(D_SAE, -50.0))
    stale = jnp.full(D_SAE, 1000, jnp.int32)
    for step, counts in ((0, 1000), (1, 1000), (2, 1), (3, 1001), (4, 1000), (6, 1), (7, 1001)):
        out = observe(stale, way, params, x, jnp.array(step, jnp.int32), SAEConfig(), rule)
        np.testing.assert_array_equal(out, np.full(D_SAE, counts))


def test_the_threshold_itself_is_silence():
    params = identity(D_IN)
    rule, x = Resample(ghost_after=1, threshold=0.5), jnp.diag(jnp.array([0.25, 0.5, 0.75, 0.0]))
    silent = jnp.full(D_IN, 4, jnp.int32)
    out = observe(silent, GHOST, params, x, jnp.array(0, jnp.int32), SAEConfig(), rule)
    np.testing.assert_array_equal(out, [5, 5, 0, 5])


def test_cells_of_all_ways_side_by_side_are_each_alone():
    rule = Resample(every=4, window=2, ghost_after=1, aux_after=1)
    params, _, x = make(True)
    n = len(REVIVALS)
    silent = jnp.arange(n * D_SAE, dtype=jnp.int32).reshape(n, D_SAE)

    def look(silent, way, step):
        return observe(silent, way, params, x, step, WITH_B_DEC, rule)

    alone, together = jax.jit(look), jax.jit(jax.vmap(look, (0, 0, None)))
    for i in range(4, 8):
        step = jnp.array(i, jnp.int32)
        side_by_side = together(silent, jnp.arange(n), step)
        for way in range(n):
            np.testing.assert_array_equal(side_by_side[way], alone(silent[way], way, step))


def test_between_the_windows_nothing_is_computed_side_by_side_either(monkeypatch):
    looked, encode = [], revival.encode

    def spy(*args):
        jax.debug.callback(lambda _: looked.append(step), args[1].sum())
        return encode(*args)

    monkeypatch.setattr(revival, "encode", spy)
    params, _, x = make(True)
    rule, silent = Resample(every=4, window=2), jnp.zeros((3, D_SAE), jnp.int32)

    def look(silent, way, step):
        return observe(silent, way, params, x, step, WITH_B_DEC, rule)

    together = jax.jit(jax.vmap(look, (0, 0, None)))
    for step in range(9):
        silent = together(silent, jnp.array([OFF, ON, ANTHROPIC]), jnp.array(step, jnp.int32))
        jax.effects_barrier()
    assert {*looked} == {2, 3, 6, 7}


def test_latents_are_revived_after_every_so_many_steps():
    due = [bool(Resample(every=3).is_due(jnp.array(done))) for done in range(1, 8)]
    assert due == [False, False, True, False, False, True, False]


# --- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": -1}, r"^resample_every: got -1, allowed: 0 \(never\) or more"),
        ({"every": 5, "window": 0}, r"^resample window: got 0, allowed: 1 to resample_every=5"),
        ({"every": 5, "window": 6}, r"^resample window: got 6, allowed: 1 to resample_every=5"),
        ({"threshold": -0.1}, r"^resample threshold: got -0.1, allowed: 0 or more"),
        ({"threshold": float("nan")}, r"^resample threshold: got nan, allowed: 0 or more"),
        ({"ghost_after": -1}, r"^ghost_after: got -1, allowed: 0 \(never\) or more"),
    ],
)
def test_bad_argument_is_named_with_what_is_allowed(unchecked, arguments, message):
    with pytest.raises(ValueError, match=message):
        Resample(**arguments)


def test_window_is_free_where_nothing_is_resampled():
    assert Resample(every=0, window=10).every == 0
    assert Resample(every=10, window=10).window == 10
