"""Ghost gradients: against a derivation by hand, published formulas, and what they do in a
sweep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.groups import plain_step

from saejax import Resample, SAEConfig, Settings
from saejax.sae import ghost
from saejax.sae.ghost import ghost_gradient
from saejax.sae.params import Params
from saejax.sae.revival import GHOST, OFF
from saejax.training.cells import Hyper, init_cells, transpose_decoder

BATCH, D_IN, D_SAE = 9, 5, 7
DEAD = np.array([True, False, False, True, False, True, False])
KINDS = {
    "no b_dec": SAEConfig(),
    "b_dec": SAEConfig(use_b_dec=True),
    "b_dec at the output alone": SAEConfig(use_b_dec=True, apply_b_dec_to_input=False),
}
each_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
gradient = jax.jit(ghost_gradient, static_argnames=("config", "precision"))


def make(config=KINDS["b_dec"], seed=0, bias=-1.0):
    """Random weights and a batch in float64, with rows of W_dec of several norms."""
    rng = np.random.default_rng(seed)
    params = {
        "W_enc": rng.normal(size=(D_IN, D_SAE)),
        "b_enc": rng.normal(size=D_SAE) + bias * DEAD,
        "W_dec": rng.normal(size=(D_SAE, D_IN)),
    }
    if config.use_b_dec:
        params["b_dec"] = rng.normal(size=D_IN)
    return params, rng.normal(size=(BATCH, D_IN))


def ours(params, x, dead=DEAD, config=KINDS["b_dec"], **kwargs):
    traced = Params(**{name: jnp.array(a, jnp.float32) for name, a in params.items()})
    return gradient(traced, jnp.array(dead), jnp.array(x, jnp.float32), config, **kwargs)


def forward(params, x, dead, config):
    """Inputs of the encoder, residual, exponentials of the dead latents and their ghosts, by
    hand."""
    b_dec = params.get("b_dec", np.zeros(x.shape[1]))
    shifted = x - b_dec if config.apply_b_dec_to_input else x
    pre = shifted @ params["W_enc"] + params["b_enc"]
    residual = x - np.maximum(pre, 0) @ params["W_dec"] - b_dec
    e = np.exp(pre) * dead
    return shifted, residual, e, e @ params["W_dec"]


def constants(params, x, dead, config):
    """r, s_b and mse / ghost."""
    _, r, _, g = forward(params, x, dead, config)
    s = np.sqrt((r**2).sum(1)) / (2 * np.sqrt((g**2).sum(1)))
    return r, s[:, None], (r**2).mean() / ((s[:, None] * g - r) ** 2).mean()


def by_hand(params, x, dead=DEAD, config=KINDS["b_dec"]):
    """The chain rule, written out in float64."""
    shifted, _, e, g = forward(params, x, dead, config)
    r, s, factor = constants(params, x, dead, config)
    d_g = factor * s * 2 * (s * g - r) / r.size
    d_pre = (d_g @ params["W_dec"].T) * e
    return {"W_enc": shifted.T @ d_pre, "b_enc": d_pre.sum(0), "W_dec": e.T @ d_g}


def assert_close(got, want, rtol=2e-4):
    for name, value in want.items():
        size = np.abs(value).max()
        np.testing.assert_allclose(
            getattr(got, name), value, rtol=rtol, atol=rtol * size, err_msg=name
        )


# ------------------------------------------------------------------------------------ the gradient


@each_kind
def test_the_gradient_is_the_chain_rule_by_hand(config):
    params, x = make(config)
    assert_close(ours(params, x, config=config), by_hand(params, x, config=config))


@each_kind
def test_the_gradient_is_the_slope_of_the_term_with_its_constants_held(config):
    params, x = make(config)
    r, s, factor = constants(params, x, DEAD, config)

    def term(changed):
        g = forward(changed, x, DEAD, config)[3]
        return factor * ((s * g - r) ** 2).mean()

    np.testing.assert_allclose(term(params), (r**2).mean())
    slopes = {}
    for name in ("W_enc", "b_enc", "W_dec"):
        slope = np.zeros_like(params[name])
        for index in np.ndindex(slope.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = params[name].copy()
                moved[index] += step
                ends.append(term(params | {name: moved}))
            slope[index] = (ends[0] - ends[1]) / 2e-5
        slopes[name] = slope
    assert_close(ours(params, x, config=config), slopes)


@each_kind
def test_live_latents_and_b_dec_get_nothing_at_all(config):
    params, x = make(config)
    got = ours(params, x, config=config)
    assert not np.any(got.W_enc[:, ~DEAD])
    assert not np.any(got.b_enc[~DEAD])
    assert not np.any(got.W_dec[~DEAD])
    assert (got.b_dec is None) == (not config.use_b_dec)
    assert got.b_dec is None or (got.b_dec.shape == (D_IN,) and not np.any(got.b_dec))
    assert np.abs(got.W_enc[:, DEAD]).min() > 0


def test_where_nothing_is_dead_there_is_no_gradient():
    params, x = make()
    with jax.debug_nans(True):
        got = ours(params, x, dead=np.zeros(D_SAE, bool))
    assert not any(np.any(a) for a in jax.tree.leaves(got))


def test_a_batch_explained_perfectly_gives_no_gradient():
    x = np.abs(make()[1])
    W_enc = np.eye(D_IN, D_SAE)
    W_enc[:, D_IN:] = -1
    params = {"W_enc": W_enc, "b_enc": np.zeros(D_SAE), "W_dec": np.eye(D_SAE, D_IN)}
    params["W_dec"][D_IN:] = 1
    with jax.debug_nans(True):
        got = ours(params, x, dead=np.arange(D_SAE) >= D_IN, config=SAEConfig())
    assert not any(np.any(a) for a in jax.tree.leaves(got))


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e6])
def test_the_scale_of_the_data_is_that_of_the_gradient_squared(scale):
    # Nothing but the direction of the residual enters g; the term is as large as mse.
    params, x = make(config=SAEConfig())
    params["W_enc"], params["b_enc"] = params["W_enc"] * DEAD, -1.0 * DEAD  # nobody else fires
    params["W_enc"] *= 0.1
    plain = by_hand(params, x, config=SAEConfig())
    params["W_enc"] /= scale
    got = ours(params, x * scale, config=SAEConfig())
    np.testing.assert_allclose(got.b_enc, plain["b_enc"] * scale**2, rtol=1e-3)
    np.testing.assert_allclose(
        got.W_dec, plain["W_dec"] * scale**2, rtol=1e-3, atol=1e-6 * scale**2
    )


@pytest.mark.parametrize("bias", [-300.0, -90.0, -40.0, 40.0, 90.0, 300.0])
def test_preactivations_far_from_0_keep_the_gradient_of_the_formula(bias):
    # In float32 exp(-104) is 0 and exp(89) infinite.
    params, x = make(bias=bias)
    got = ours(params, x)
    assert_close(got, by_hand(params, x), rtol=3e-3)
    assert np.abs(got.b_enc[DEAD]).min() > 0


def test_ghosts_that_cancel_one_another_stay_finite():
    params, x = make()
    twins = np.flatnonzero(DEAD)[:2]
    params["W_enc"][:, twins[1]] = params["W_enc"][:, twins[0]]
    params["b_enc"][twins[1]] = params["b_enc"][twins[0]]
    params["W_dec"][twins[1]] = -params["W_dec"][twins[0]]
    got = ours(params, x, dead=np.isin(np.arange(D_SAE), twins))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(got))


def test_the_precision_is_that_of_every_product(monkeypatch):
    params, x = make()
    rough, fine = ours(params, x, precision="bf16"), ours(params, x)
    assert np.any(np.asarray(rough.W_dec) != np.asarray(fine.W_dec))
    assert_close(rough, {n: getattr(fine, n) for n in ("W_enc", "b_enc", "W_dec")}, rtol=0.1)
    asked = []
    for name in ("matmul", "decode"):
        product = getattr(ghost, name)
        monkeypatch.setattr(ghost, name, lambda *a, f=product: asked.append(a[2:]) or f(*a))
    ghost_gradient(
        Params(**{name: jnp.array(a, jnp.float32) for name, a in params.items()}),
        jnp.array(DEAD),
        jnp.array(x, jnp.float32),
        KINDS["b_dec"],
        "bf16",
    )
    assert asked == [("bf16",)] * 4


def test_vmap_over_cells_is_each_alone():
    many = [make(seed=seed) for seed in range(3)]
    dead = np.array([DEAD, ~DEAD, DEAD & False])
    params = Params(**{n: jnp.array([p[n] for p, _ in many], jnp.float32) for n in many[0][0]})
    x = jnp.array([x for _, x in many], jnp.float32)
    mapped = jax.jit(jax.vmap(partial(ghost_gradient, config=KINDS["b_dec"])))(params, dead, x)
    for i, (alone, x) in enumerate(many):
        want = ours(alone, x, dead=dead[i])
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), own, want)


# ------------------------------------------------------------------------------------ other
# libraries


def published(params, x, loss):
    """Gradient of another library's ghost loss by its own autodiff.

    Args:
        params: the SAE.
        x: the batch.
        loss: of the residual and of the ghosts at half its norm.
    """
    torch = pytest.importorskip("torch", reason="needs the packages of the extra [parity]")
    own = {name: torch.tensor(a, requires_grad=True) for name, a in params.items()}
    shifted = torch.tensor(x) - own["b_dec"]
    pre = shifted @ own["W_enc"] + own["b_enc"]
    residual = (torch.tensor(x) - torch.relu(pre) @ own["W_dec"] - own["b_dec"]).detach()
    dead = torch.tensor(DEAD)
    ghosts = torch.exp(pre[:, dead]) @ own["W_dec"][dead]
    half = residual.norm(dim=-1, keepdim=True) / (2 * ghosts.norm(dim=-1, keepdim=True))
    loss(residual, ghosts * half.detach()).backward()
    return {name: own[name].grad.numpy() for name in ("W_enc", "b_enc", "W_dec")}


def test_dictionary_learning_has_the_same_gradient_for_roots_of_the_errors():
    # Its loss is sqrt(ghost) times the constant sqrt(mse / ghost), so that by the chain rule its
    # gradient is that of (mse / ghost) ghost divided by 2 sqrt(mse).
    params, x = make()

    def loss(residual, ghosts):
        root, ghost_root = (residual**2).mean().sqrt(), ((ghosts - residual) ** 2).mean().sqrt()
        return ghost_root * (root / ghost_root).detach()

    mse = (constants(params, x, DEAD, KINDS["b_dec"])[0] ** 2).mean()
    theirs = published(params, x, loss)
    assert_close(ours(params, x), {n: 2 * np.sqrt(mse) * a for n, a in theirs.items()})


def test_saelens_has_the_same_gradient_where_all_elements_are_rescaled_alike():
    # It rescales each element of the squared error for itself. In one dimension, with residuals and
    # ghosts of one sign, all of these factors are 4, as is that of the mean.
    rng = np.random.default_rng(0)
    params = {
        "W_enc": rng.normal(size=(1, D_SAE)) * 0.1,
        "b_enc": np.full(D_SAE, -1.0),
        "W_dec": np.abs(rng.normal(size=(D_SAE, 1))),
        "b_dec": np.zeros(1),
    }
    x = rng.uniform(0.1, 1, size=(BATCH, 1))

    def loss(residual, ghosts):
        squares = (ghosts - residual) ** 2
        return (squares * (residual**2 / (squares + 1e-6)).detach()).mean()

    assert_close(ours(params, x), published(params, x, loss))


# ------------------------------------------------------------------------------------ in a sweep

AFTER = 3


def train(ways, settings, cells, x, cell_batch=1):
    """The states after every step of a group of one source, the start included."""
    n = len(ways)
    hyper = Hyper(jnp.full(n, 0.01), jnp.full(n, 0.03), jnp.array(ways, jnp.int32), jnp.zeros(n))
    step = jax.jit(plain_step(settings, cell_batch))
    keys, states = jax.random.split(jax.random.key(0), 1), [cells]
    for i in range(len(x)):
        cells = step(cells, cells, hyper, x[i][None], keys, jnp.int32(i))
        states.append(cells)
    return states


def begin(n, settings, b_enc):
    cells = init_cells(jnp.array([1], jnp.uint32), 1, n, D_IN, D_SAE, settings)
    b_enc = jnp.broadcast_to(jnp.array(b_enc), cells.params.b_enc.shape)
    return cells._replace(params=cells.params._replace(b_enc=b_enc))


@pytest.fixture(scope="module", params=[1, 2], ids=["map", "vmap"])
def side_by_side(request):
    """Six steps of an off cell and a ghost cell whose last latent is out of reach."""
    settings = Settings(resample=Resample(ghost_after=AFTER))
    x = jnp.array(np.random.default_rng(0).normal(size=(6, BATCH, D_IN)), jnp.float32)
    b_enc = jnp.zeros(D_SAE).at[-1].set(-20.0)
    states = train([OFF, GHOST], settings, begin(2, settings, b_enc), x, request.param)
    return states, x, b_enc, request.param


def test_a_latent_that_cannot_fire_moves_with_ghosts_alone_and_once_it_was_silent(side_by_side):
    states, _, _, _ = side_by_side
    start = at_last(states[0])
    for done, cells in enumerate(states):
        np.testing.assert_array_equal(cells.silent[0, :, -1], [0, done])
        for now, before in zip(at_last(cells), start, strict=True):
            same = now == before
            assert same[0].all()
            assert same[1].all() if done <= AFTER else not same[1].any()


def at_last(cells):
    """W_enc and b_enc of the last latent, for each of the two cells."""
    return np.asarray(cells.params.W_enc)[0, ..., -1], np.asarray(cells.params.b_enc)[0, ..., -1:]


def test_off_cells_are_what_they_are_in_a_sweep_without_ghosts(side_by_side):
    states, x, b_enc, cell_batch = side_by_side
    plain = Settings()
    alone = train([OFF, OFF], plain, begin(2, plain, b_enc), x, cell_batch)
    rounding = (
        1e-6  # without the branch of the ghosts, what follows the products is fused otherwise
    )
    for a, b in zip(states, alone, strict=True):
        for pick in (lambda c: c.params, lambda c: c.opt):
            pairs = zip(jax.tree.leaves(pick(a)), jax.tree.leaves(pick(b)), strict=True)
            for mine, other in pairs:
                np.testing.assert_allclose(mine[0, 0], other[0, 0], rtol=0, atol=rounding)


def test_the_step_takes_the_sum_of_both_gradients(side_by_side):
    states, x, _, _ = side_by_side
    before, after = states[AFTER], states[AFTER + 1]
    weights = jax.tree.map(lambda a: a[0, 1], transpose_decoder(before.params))
    params = {n: np.float64(a) for n, a in weights._asdict().items() if a is not None}
    dead = np.arange(D_SAE) == D_SAE - 1
    want = by_hand(params, np.float64(x[AFTER]), dead, SAEConfig())
    # A latent that does not fire has no other gradient, and Adam's first moment was 0 before.
    got = transpose_decoder(after.opt.mu)
    np.testing.assert_allclose(got.W_enc[0, 1, :, -1], 0.1 * want["W_enc"][:, -1], rtol=1e-3)
    np.testing.assert_allclose(got.b_enc[0, 1, -1], 0.1 * want["b_enc"][-1], rtol=1e-3)
    np.testing.assert_allclose(got.W_dec[0, 1, -1], 0.1 * want["W_dec"][-1], rtol=1e-3)


def test_an_sae_that_is_wholly_silent_learns_with_ghosts_alone():
    settings = Settings(resample=Resample(ghost_after=1))
    rng = np.random.default_rng(2)
    strength = rng.uniform(0.5, 1, size=(300, BATCH, 1))
    x = jnp.array(strength * np.array([0.6, 0.8, 0, 0, 0]), jnp.float32)
    last = train([OFF, GHOST], settings, begin(2, settings, np.full(D_SAE, -3.0)), x)[-1]

    def error(way):
        weights = jax.tree.map(lambda a: np.float64(a[0, way]), transpose_decoder(last.params))
        h = np.maximum(np.float64(x[-1]) @ weights.W_enc + weights.b_enc, 0)
        return ((h @ weights.W_dec - x[-1]) ** 2).mean() / (x[-1] ** 2).mean()

    assert error(0) == 1
    assert error(1) < 0.2
