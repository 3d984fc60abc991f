"""The language model against a forward pass written in NumPy: its hooks and losses."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_lm import CONFIG, POST, losses_of, run

from saejax.lm.ablation import ablations, read
from saejax.lm.loss import share_recovered, window_losses
from saejax.lm.model import (
    GPTConfig,
    abstract_gpt,
    activations,
    forward,
    hook_names,
    hook_width,
    init_gpt,
    n_parameters,
)

pytestmark = pytest.mark.usefixtures("pieces")


@pytest.fixture(scope="module")
def ablated(model, windows):
    reading = read(model, windows, POST)
    return reading.x.mean((0, 1)), ablations(model, reading, POST)


def numpy_forward(model, tokens, changed=None):
    """Logits and every activation of one sequence, in float64 and by hand."""
    w = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree.leaves_with_path(model)
    }
    changed, seen = changed or {}, {}

    def at(name, x):
        seen[name] = changed[name](x) if name in changed else x
        return seen[name]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.scale.value"] + w[f"{name}.bias.value"]

    def linear(x, name):
        return x @ w[f"{name}.kernel.value"] + w[f"{name}.bias.value"]

    n, d = len(tokens), CONFIG.d_model
    x = w["wte.embedding.value"][tokens] + w["wpe.embedding.value"][:n]
    for i in range(CONFIG.n_layers):
        x = at(f"blocks.{i}.hook_resid_pre", x)
        q, k, v = np.split(linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=1)
        mixed = np.zeros((n, d))
        for h in range(CONFIG.n_heads):
            part = slice(h * d // CONFIG.n_heads, (h + 1) * d // CONFIG.n_heads)
            for t in range(n):
                score = k[: t + 1, part] @ q[t, part] / math.sqrt(d / CONFIG.n_heads)
                p = np.exp(score) / np.exp(score).sum()
                mixed[t, part] = p @ v[: t + 1, part]
        x = at(f"blocks.{i}.hook_resid_mid", x + linear(mixed, f"h.{i}.attn.c_proj"))
        z = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        post = z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        post = at(f"blocks.{i}.mlp.hook_post", post)
        x = x + at(f"blocks.{i}.hook_mlp_out", linear(post, f"h.{i}.mlp.c_proj"))
        x = at(f"blocks.{i}.hook_resid_post", x)
    return norm(x, "ln_f") @ w["wte.embedding.value"].T, seen


def numpy_loss(model, window, changed=None):
    logits, _ = numpy_forward(model, window[:-1], changed)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(p[np.arange(len(window) - 1), window[1:]])


# -------------------------------------------------------------------------------------------- model


def test_forward_and_all_hooks_are_those_of_numpy(model, tokens):
    names = hook_names(CONFIG)
    logits, seen = run(model, tokens, read=names)
    assert set(seen) == set(names)
    for b in range(3):
        expected, activity = numpy_forward(model, np.asarray(tokens[b]))
        np.testing.assert_allclose(logits[b], expected, rtol=1e-4, atol=1e-4)
        for name in names:
            np.testing.assert_allclose(seen[name][b], activity[name], rtol=1e-4, atol=1e-4)
            assert seen[name].shape[-1] == hook_width(CONFIG, name)


@pytest.mark.parametrize("name", hook_names(CONFIG))
def test_a_replaced_activation_changes_what_follows_as_in_numpy(model, tokens, name):
    sequence, read = tokens[0], (name, "blocks.1.hook_resid_post")
    got, seen = forward(model, sequence, read, {name: lambda x: 2 * x - 1})
    expected, activity = numpy_forward(model, np.asarray(sequence), {name: lambda x: 2 * x - 1})
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)
    for hook in read:
        np.testing.assert_allclose(seen[hook], activity[hook], rtol=2e-4, atol=2e-4)


def test_an_array_takes_an_activations_place(model, tokens):
    mean = np.linspace(-1, 1, 20)
    got, _ = forward(model, tokens[0], replace={POST: jnp.asarray(mean)})
    changed = {POST: lambda x: np.broadcast_to(mean, x.shape)}
    expected, _ = numpy_forward(model, np.asarray(tokens[0]), changed)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


def test_the_future_is_not_seen(model, tokens):
    other = tokens.at[:, 7:].set(5)
    a, b = run(model, tokens)[0], run(model, other)[0]
    np.testing.assert_allclose(a[:, :7], b[:, :7], rtol=1e-5, atol=1e-5)
    assert np.abs(a[:, 7:] - b[:, 7:]).max() > 0.1


def test_a_model_maps_over_weights_and_sequences(model, tokens):
    many = jax.tree.map(lambda a: jnp.stack([a, 0.9 * a]), model)
    each = jax.vmap(jax.vmap(lambda m, t: forward(m, t)[0], (None, 0)), (0, None))
    logits = jax.jit(each)(many, tokens)
    smaller = jax.tree.map(lambda a: 0.9 * a, model)
    np.testing.assert_allclose(logits[1], run(smaller, tokens)[0], rtol=1e-4, atol=1e-5)
    assert np.abs(logits[1, 2] - logits[0, 2]).max() > 0.1


def test_layers_behind_the_last_hook_are_not_run(model, tokens):
    names = ("blocks.0.mlp.hook_post", POST)
    traced = [jax.make_jaxpr(partial(activations, read=(name,)))(model, tokens) for name in names]
    early, late = (len(jaxpr.eqns) for jaxpr in traced)
    assert early < 0.6 * late
    for name in names:
        read, through = activations(model, tokens, (name,)), run(model, tokens, read=names)[1]
        np.testing.assert_allclose(read[name], through[name], rtol=1e-4, atol=1e-5)


def test_shapes_are_those_of_gpt2_and_of_nanogpt():
    gpt2 = GPTConfig(50257, context=1024, n_layers=12, d_model=768, d_mlp=3072, n_heads=12)
    assert n_parameters(gpt2) == 124_439_808  # published: 124M
    block = abstract_gpt(gpt2).h[0]
    assert block.attn.c_attn.kernel.shape == (768, 2304)
    assert block.mlp.c_fc.kernel.shape == (768, 3072)
    # 64 * 8 + 12 * 8, then per block 2 norms, 8 x 24, 8 x 8, 8 x 20 and 20 x 8 with biases; ln_f.
    assert n_parameters(CONFIG) == 608 + 2 * (32 + 216 + 72 + 180 + 168) + 16


def test_fresh_weights_have_gpt2s_deviations():
    fresh = init_gpt(CONFIG, jax.random.key(2))
    block = fresh.h[1]
    for array, std in (
        (fresh.wte.embedding, 0.02),
        (fresh.wpe.embedding, 0.02),
        (block.attn.c_attn.kernel, 0.02),
        (block.mlp.c_fc.kernel, 0.02),
        (block.attn.c_proj.kernel, 0.01),
        (block.mlp.c_proj.kernel, 0.01),
    ):
        # Four standard errors of a deviation.
        error = 4 / (2 * array[...].size) ** 0.5
        assert float(jnp.std(array[...])) == pytest.approx(std, rel=error)
    assert not block.mlp.c_fc.bias[...].any()


def test_bf16_products_stay_close_and_differ(model, tokens):
    exact = run(model, tokens)[0]
    like = abstract_gpt(replace(CONFIG, matmul_precision="bf16"))
    model = jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(model))
    rounded = run(model, tokens)[0]
    assert rounded.dtype == jnp.float32
    assert 0 < float(jnp.abs(rounded - exact).max()) < 0.1 * float(jnp.abs(exact).max())


@pytest.mark.parametrize("function", [forward, activations])
def test_unknown_hooks_are_refused_with_the_list(model, tokens, function):
    allowed = r"allowed: blocks\.0\.hook_resid_pre, .*, blocks\.1\.hook_resid_post$"
    with pytest.raises(ValueError, match=r"read: got 'blocks\.2\.hook_mlp_out', " + allowed):
        function(model, tokens, ("blocks.2.hook_mlp_out",))
    with pytest.raises(ValueError, match=r"replace: got 'mlp', " + allowed):
        function(model, tokens, (POST,), {"mlp": jnp.zeros(1)})


def test_what_does_not_fit_is_refused(model, tokens):
    for value in (jnp.zeros(8), lambda x: x[:-1]):
        with pytest.raises(
            ValueError, match=r"replace: got an array of shape .* for 'blocks\.1\.mlp"
        ):
            forward(model, tokens, replace={POST: value})
    for n in (0, 13):
        with pytest.raises(ValueError, match=f"tokens: got {n} of them, allowed: 1 to context=12"):
            forward(model, jnp.zeros((1, n), jnp.int32))
    with pytest.raises(ValueError, match=r"hook: got 'x', allowed: blocks"):
        hook_width(CONFIG, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 0},
        {"context": 1.5},
        {"n_layers": True},
        {"d_model": -8},
        {"d_mlp": "4"},
        {"n_heads": 3},
        {"layer_norm_eps": 0.0},
        {"matmul_precision": "fp8"},
    ],
)
def test_shapes_that_are_none_are_refused(change, unchecked):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}: got .*, allowed: "):
        replace(CONFIG, **change)


# ------------------------------------------------------------------------------------------- losses


def test_losses_are_those_of_numpy(model, windows):
    expected = np.array([numpy_loss(model, np.asarray(w)) for w in windows])
    np.testing.assert_allclose(losses_of(model, windows), expected, rtol=1e-4, atol=1e-4)
    # Six windows four at a time: two are left over.
    each = window_losses(model, windows, batch_size=4)
    np.testing.assert_allclose(each, expected.reshape(6, -1).mean(1), rtol=1e-5)


def test_losses_under_replacements_are_those_of_numpy(model, windows, ablated):
    arrays = [np.asarray(w) for w in windows]
    x = np.concatenate([numpy_forward(model, w[:-1])[1][POST] for w in arrays])
    changes = {
        "clean": lambda x: x,
        "zero": np.zeros_like,
        "mean": lambda y: np.broadcast_to(x.mean(0), y.shape),
        "sae": lambda y: 0.6 * y + 0.1,
    }
    loss = {
        k: [np.mean(numpy_loss(model, w, {POST: change})) for w in arrays]
        for k, change in changes.items()
    }
    mean, ablated = ablated
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ablated, [loss["clean"], loss["zero"], loss["mean"]], rtol=1e-5)

    def measure(scale):
        return window_losses(model, windows, {POST: lambda x: scale * x + 0.1}, batch_size=4)

    got = jax.jit(jax.vmap(measure))(jnp.array([0.6, 0.0]))
    np.testing.assert_allclose(got[0], loss["sae"], rtol=1e-5)
    assert (got[1] != got[0]).all()


def test_recovered_shares_by_hand():
    clean, zero = np.array([1.0, 3.0]), np.array([2.0, 6.0])
    assert share_recovered(clean, zero, clean) == 1
    assert share_recovered(clean, zero, zero) == 0
    # Of the mean: the windows cost 1 and 3, of which 0.5 and 2.5 are left.
    assert share_recovered(clean, zero, np.array([1.5, 5.5])) == 0.25
    assert share_recovered(clean, zero, np.array([4.0, 6.0])) == -0.5
    assert np.isnan(share_recovered(clean, clean[::-1], zero))
    several = share_recovered(
        np.stack([clean, zero]), np.stack([zero, zero]), np.stack([clean, clean])
    )
    np.testing.assert_array_equal(several, [1, np.nan])
