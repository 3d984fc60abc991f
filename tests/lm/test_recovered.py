"""The loss that SAEs recover in a language model: SAEs whose share is known, and losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.lm.ablation import ablations, reconstructed
from saejax.lm.harvest import Packing
from saejax.lm.loss import token_losses
from saejax.lm.model import GPTConfig, init_gpt
from saejax.lm.recovered import recovery
from saejax.lm.training import spread_windows
from saejax.sae.params import Params

HOOK = "blocks.1.hook_resid_pre"
CONFIG = GPTConfig(40, context=6, n_layers=2, d_model=8, d_mlp=10, n_heads=2)
D, N, BOS = CONFIG.d_model, 7, 39
TOKENS = np.random.default_rng(1).integers(0, 39, 100).astype(np.uint16)
PACKINGS = (
    Packing(6),
    Packing(6, drop_first=True),
    Packing(6, bos=BOS),
    Packing(6, bos=BOS, drop_first=True),
    Packing(4, bos=BOS, drop_first=True),
)


@pytest.fixture(scope="module")
def model():
    leaves, tree = jax.tree.flatten(init_gpt(CONFIG, jax.random.key(0)))
    rng = np.random.default_rng(0)
    moved = [a + jnp.array(rng.normal(0, 0.5, a.shape), a.dtype) for a in leaves]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module", params=PACKINGS, ids=str)
def packing(request):
    return request.param


@pytest.fixture(scope="module")
def losses(model, packing):
    return recovery(model, TOKENS, HOOK, packing, N)


def identity(b_dec=None):
    """Every direction and its opposite: h @ W_dec is what h was made of."""
    eye = np.eye(D, dtype=np.float32)
    both = np.concatenate([eye, -eye])
    return Params(both.T, np.zeros(2 * D, np.float32), both, b_dec)


def silent(b_dec=None):
    """No latent ever fires: every reconstruction is b_dec."""
    return identity(b_dec)._replace(b_enc=np.full(2 * D, -1e6, np.float32))


def noise():
    """Reconstructions that have nothing to do with the activation."""
    rng = np.random.default_rng(5)
    shapes = (D, 3), (3,), (3, D), (D,)
    return Params(*(3 * rng.normal(size=shape).astype(np.float32) for shape in shapes))


def windows_of(packing):
    """The windows as the model sees them, and the token behind each."""
    text = spread_windows(TOKENS, N, packing.stride + 1).astype(np.int32)
    front = [] if packing.bos is None else [packing.bos]
    return jnp.asarray([[*front, *window] for window in text.tolist()])


def test_the_windows_are_those_that_saes_are_trained_on(losses, packing):
    windows = np.asarray(losses.reading.windows)
    assert windows.shape == (N, packing.context + 1)
    np.testing.assert_array_equal(windows, windows_of(packing))
    np.testing.assert_array_equal(windows[0, :-1], packing.windows(TOKENS, 0, 1)[0])
    assert losses.reading.x.shape == (N, packing.context, D)


def test_an_sae_that_changes_nothing_recovers_all(losses):
    clean = losses.of_the_model()["clean"]
    for params in (identity(), identity(np.linspace(-1, 1, D, dtype=np.float32))):
        got = losses.of(params)
        np.testing.assert_allclose(got["loss"], clean, rtol=1e-5)
        np.testing.assert_allclose([got["recovered_zero"], got["recovered_mean"]], 1, atol=1e-3)


def test_the_mean_recovers_nothing_against_the_mean(losses):
    mean = np.asarray(losses.reading.x)[:, losses.first :].mean((0, 1))
    got, own = losses.of(silent(mean)), losses.of_the_model()
    np.testing.assert_allclose(got["recovered_mean"], 0, atol=1e-4)
    np.testing.assert_allclose(got["loss"], own["mean"], rtol=1e-5)
    expected = (own["zero"] - own["mean"]) / (own["zero"] - own["clean"])
    np.testing.assert_allclose(got["recovered_zero"], expected, rtol=1e-3, atol=1e-4)


def test_zeros_recover_nothing_against_zeros(losses):
    got = losses.of(silent())
    np.testing.assert_allclose(got["recovered_zero"], 0, atol=1e-6)
    np.testing.assert_allclose(got["loss"], losses.of_the_model()["zero"], rtol=1e-6)


def test_losses_are_those_of_the_model_with_the_replacement_made_by_hand(model, losses, packing):
    """What the packing leaves out of the rows keeps its activation, whatever the SAE makes of
    it."""
    windows, first, params = windows_of(packing), int(packing.drop_first), noise()
    mean = np.asarray(losses.reading.x)[:, first:].mean((0, 1))

    def loss(change):
        replacement = {HOOK: lambda x: x.at[:, first:].set(change(x)[:, first:])}
        return float(token_losses(model, windows, replacement).mean())

    def noisy(x):
        h = jnp.maximum((x - params.b_dec) @ params.W_enc + params.b_enc, 0)
        return h @ params.W_dec + params.b_dec

    ways = (lambda x: x, jnp.zeros_like, lambda x: jnp.broadcast_to(mean, x.shape), noisy)
    clean, zero, by_mean, own = map(loss, ways)
    of_the_model = losses.of_the_model()
    np.testing.assert_allclose(
        [of_the_model[name] for name in ("clean", "zero", "mean")],
        [clean, zero, by_mean],
        rtol=1e-5,
    )
    got = losses.of(params)
    np.testing.assert_allclose(got["loss"], own, rtol=1e-5)
    np.testing.assert_allclose(got["recovered_zero"], (zero - own) / (zero - clean), rtol=1e-3)
    np.testing.assert_allclose(
        got["recovered_mean"], (by_mean - own) / (by_mean - clean), rtol=1e-3
    )


def test_an_sae_that_ruins_the_first_position_alone_changes_nothing_where_that_is_kept(model):
    """One more latent fires at the first position, which lies far away, and adds a large vector."""
    packing = Packing(6, bos=BOS, drop_first=True)
    losses = recovery(model, TOKENS, HOOK, packing, N)
    x = np.asarray(losses.reading.x)
    far = x[0, 0] - x[:, 1:].mean((0, 1))
    border = max(float((x[:, 1:] @ far).max()), 0.0)
    assert border < float(x[0, 0] @ far), "the first position does not stand out"
    W_enc, b_enc, W_dec, *_ = identity()
    params = Params(
        np.concatenate([W_enc, far[:, None]], axis=1),
        np.append(b_enc, np.float32(-(border + float(x[0, 0] @ far)) / 2)),
        np.concatenate([W_dec, np.full((1, D), 100, np.float32) * np.arange(D, dtype=np.float32)]),
    )
    clean = losses.of_the_model()["clean"]
    np.testing.assert_allclose(losses.of(params)["loss"], clean, rtol=1e-5)
    kept = recovery(model, TOKENS, HOOK, Packing(6, bos=BOS), N)
    assert abs(kept.of(params)["loss"] - clean) > 1e-3
    for first, fires in ((0, 1 / 6), (1, 0)):
        _, frequency = reconstructed(
            model, losses.reading, HOOK, jax.tree.map(jnp.asarray, params), first=first
        )
        np.testing.assert_allclose(frequency[-1], fires, rtol=1e-6)


def test_the_first_position_is_left_out_of_the_mean(model):
    reading = recovery(model, TOKENS, HOOK, Packing(6), N).reading
    moved = reading._replace(x=reading.x.at[:, 0].add(9.0 * jnp.arange(D)))
    kept, all_of_them = (
        [ablations(model, own, HOOK, first=first).mean for own in (reading, moved)]
        for first in (1, 0)
    )
    # With the first position kept, it reaches the losses itself but not through the mean.
    mean = np.asarray(reading.x)[:, 1:].mean((0, 1))
    for own, got in zip((reading, moved), kept, strict=True):
        by_hand = token_losses(model, reading.windows, {HOOK: own.x.at[:, 1:].set(mean)}).mean(1)
        np.testing.assert_allclose(got, by_hand, rtol=1e-4)
    assert (np.abs(all_of_them[0] - all_of_them[1]) > 1e-3).any()


@pytest.mark.parametrize(("packing", "least"), [(Packing(6), 7), (Packing(6, bos=BOS), 6)])
def test_a_text_shorter_than_a_window_and_its_next_token_is_refused(model, packing, least):
    message = rf"^tokens: got {least - 1} of validation text, allowed: {least} or more"
    with pytest.raises(ValueError, match=message):
        recovery(model, TOKENS[: least - 1], HOOK, packing, 2)
    assert recovery(model, TOKENS[:least], HOOK, packing, 2).reading.windows.shape == (2, 7)
