"""The language model against a forward pass written in NumPy; its hooks, losses, training,
harvest."""

import json
import math
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter
from saejax.lm import harvest as harvesting
from saejax.lm import steps, training
from saejax.lm.ablation import ablations, read
from saejax.lm.corpus import Corpus
from saejax.lm.harvest import Packing, harvest
from saejax.lm.loss import share_recovered, token_losses, window_losses
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
from saejax.lm.settings import LMSettings
from saejax.lm.steps import draw_windows, learning_rate, optimizer, start, train_steps
from saejax.lm.training import load_lm, spread_windows, train_lm

CONFIG = GPTConfig(vocab_size=64, context=12, n_layers=2, d_model=8, d_mlp=20, n_heads=2)
SETTINGS = LMSettings(
    steps=12, batch_size=4, lr=1e-2, warmup_steps=3, eval_every=3, eval_windows=5, seed=3
)
POST = "blocks.1.mlp.hook_post"


@pytest.fixture(scope="module", autouse=True)
def pieces():
    """The training loss is made of two windows at a time, so that there are several pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "LOSS_ROWS", 24)
        yield


@pytest.fixture(scope="module")
def model():
    """Weights of the size that training ends with, biases and gains included."""
    fresh = init_gpt(CONFIG, jax.random.key(0))
    leaves, tree = jax.tree.flatten(fresh)
    rng = np.random.default_rng(0)
    moved = [leaf + jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32) for leaf in leaves]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(1).integers(0, 64, (3, 12)), jnp.uint16)


@pytest.fixture(scope="module")
def windows():
    return jnp.asarray(np.random.default_rng(2).integers(0, 64, (6, 13)), jnp.uint16)


@pytest.fixture(scope="module")
def ablated(model, windows):
    reading = read(model, windows, POST)
    return reading.x.mean((0, 1)), ablations(model, reading, POST)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A Markov chain: each token has three successors, so that there is something to learn."""
    rng = np.random.default_rng(4)
    successors, chain = rng.integers(0, 64, (64, 3)), [0]
    for choice in rng.integers(0, 3, 1200):
        chain.append(successors[chain[-1], choice])
    ids = np.array(chain, np.uint16)
    return Corpus(
        folder=tmp_path_factory.mktemp("corpus"),
        manifest={"vocab_size": 64, "source": {"type": "chain"}, "files": {"x": {"sha256": "1"}}},
        train=ids[:1000],
        validation=ids[1000:],
        train_documents=np.array([0, 30, 31, 500, 1000]),
        validation_documents=np.array([0, 201]),
    )


run = jax.jit(forward, static_argnames="read")
losses_of = jax.jit(token_losses)
gradient_of = jax.jit(jax.value_and_grad(lambda m, w: token_losses(m, w).mean()))


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


# ---------------------------------------------------------------------------------------------
# model


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


# --------------------------------------------------------------------------------------------
# losses


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


# ------------------------------------------------------------------------------------------
# training


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    settings = LMSettings(steps=110, eval_every=10, warmup_steps=10, lr=2e-3, lr_end_share=0.2)
    rates = [float(learning_rate(settings, s)) for s in (0, 5, 10, 35, 60, 110)]
    cosine = [4e-4 + 1.6e-3 * (1 + math.cos(math.pi * t / 100)) / 2 for t in (25, 50, 100)]
    np.testing.assert_allclose(rates, [0, 1e-3, 2e-3, *cosine], rtol=1e-5)


def test_a_step_is_adamw_with_clipping_by_hand():
    settings = LMSettings(
        steps=10, eval_every=10, warmup_steps=0, lr=0.1, weight_decay=0.5, grad_clip=1.0
    )
    weights = {"W": jnp.array([[3.0, -2.0]]), "b": jnp.array([1.0])}
    gradient = {"W": jnp.array([[6.0, 0.0]]), "b": jnp.array([-8.0])}  # norm 10
    opt = optimizer(settings)
    updates, _ = opt.update(gradient, opt.init(weights), weights)
    # The first update of Adam is g / (|g| + eps); matrices lose lr * decay of themselves, biases
    # not.
    np.testing.assert_allclose(updates["W"], [[-0.1 - 0.15, 0.1]], rtol=1e-5)
    np.testing.assert_allclose(updates["b"], [0.1], rtol=1e-5)
    halves = opt.update(jax.tree.map(lambda g: g / 2, gradient), opt.init(weights), weights)[1]
    _, clipped = opt.update(gradient, opt.init(weights), weights)
    for a, b in zip(jax.tree.leaves(halves), jax.tree.leaves(clipped), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_windows_are_successive_tokens_from_everywhere():
    drawn = np.asarray(draw_windows(jnp.arange(10), jax.random.key(0), 500, 4))
    assert np.all(np.diff(drawn, axis=1) == 1)
    counts = np.bincount(drawn[:, 0], minlength=7)
    assert len(counts) == 7
    assert counts.min() > 500 / 7 - 4 * (500 / 7) ** 0.5
    assert spread_windows(np.arange(11), 3, 5)[:, 0].tolist() == [0, 3, 6]


def test_a_chunk_with_its_loss_in_pieces_is_adamw_step_by_step(corpus):
    state, tokens = start(CONFIG, SETTINGS), jnp.asarray(corpus.train)
    update, losses = jax.jit(optimizer(SETTINGS).update), []
    model, moments = jax.tree.map(jnp.copy, state)
    together, mean = train_steps(state, tokens, jnp.int32(2), n=3, settings=SETTINGS)
    stream = jax.random.fold_in(jax.random.key(SETTINGS.seed), 1)
    for step in (2, 3, 4):
        x = draw_windows(tokens, jax.random.fold_in(stream, step), 4, 13)
        loss, gradient = gradient_of(model, x)
        updates, moments = update(gradient, moments, model)
        model = optax.apply_updates(model, updates)
        losses.append(loss)
    np.testing.assert_allclose(mean, np.mean(losses), rtol=1e-5)
    for a, b in zip(jax.tree.leaves(together.model), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    return path, train_lm(CONFIG, SETTINGS, corpus, path, progress=False)


def test_a_run_leaves_its_curve_and_its_model(finished, corpus):
    path, trained = finished
    assert {p.name for p in path.iterdir()} == {"lm.json", "loss.jsonl", "checkpoints"}
    assert [r["step"] for r in trained.rows] == [3, 6, 9, 12]
    assert [
        json.loads(line) for line in (path / "loss.jsonl").read_text().splitlines()
    ] == trained.rows
    run = json.loads((path / "lm.json").read_text())
    assert run == trained.run
    assert run["finished"]
    assert run["parameters"] == n_parameters(CONFIG)
    windows = jnp.asarray(spread_windows(corpus.validation, 5, 13))
    np.testing.assert_allclose(
        trained.rows[-1]["validation_loss"], losses_of(trained.model, windows).mean(), rtol=1e-5
    )
    read = load_lm(path)
    assert bits(read.model) == bits(trained.model)
    assert (read.rows, read.run) == (trained.rows, trained.run)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def interrupted(corpus, tmp_path_factory):
    """The same run, ended after the evaluation at step 9 was written; its checkpoint is of step
    6."""
    path = tmp_path_factory.mktemp("interrupted")
    write = training.append_rows

    def append(file, rows):
        write(file, rows)
        if rows[0]["step"] == 9:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "append_rows", append)
        with pytest.raises(KeyboardInterrupt):
            train_lm(CONFIG, SETTINGS, corpus, path, checkpoint_every=6, progress=False)
    return path


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    finished, interrupted, corpus, tmp_path, capsys
):
    with pytest.raises(FileNotFoundError, match=r"workdir: got .*interrupted; `train_lm` goes on"):
        load_lm(interrupted)
    shutil.copytree(interrupted, tmp_path / "w")
    resumed = train_lm(CONFIG, SETTINGS, corpus, tmp_path / "w")
    assert "12/12" in (bar := capsys.readouterr().err)
    assert f"validation loss {resumed.rows[-1]['validation_loss']:.3f} nats" in bar
    assert resumed.rows == finished[1].rows
    assert bits(resumed.model) == bits(finished[1].model)
    assert (tmp_path / "w/loss.jsonl").read_bytes() == (finished[0] / "loss.jsonl").read_bytes()


def test_a_finished_run_is_not_trained_again(finished, corpus, monkeypatch):
    monkeypatch.setattr(training, "_run", None)
    again = train_lm(CONFIG, SETTINGS, corpus, finished[0], progress=False)
    assert bits(again.model) == bits(finished[1].model)
    assert again.rows == finished[1].rows


def test_another_configuration_is_refused_by_name(interrupted, corpus):
    settings, config = replace(SETTINGS, lr=0.5, steps=24), replace(CONFIG, d_mlp=16)
    both = r"settings\.lr: got 0.5.*settings\.steps: got 24, allowed: 12"
    with pytest.raises(ValueError, match=both):
        train_lm(CONFIG, settings, corpus, interrupted)
    with pytest.raises(ValueError, match=r"config\.d_mlp: got 16, allowed: 20"):
        train_lm(config, SETTINGS, corpus, interrupted)
    other = replace(corpus, manifest=corpus.manifest | {"files": {"x": {"sha256": "2"}}})
    with pytest.raises(ValueError, match=r"corpus\.checksums\.x: got '2', allowed: '1' \(what"):
        train_lm(CONFIG, SETTINGS, other, interrupted)


def test_what_cannot_be_trained_is_refused_before_work(corpus, tmp_path):
    (tmp_path / "other").write_text("x")
    with pytest.raises(FileExistsError, match=r"workdir: got .*which holds other files"):
        train_lm(CONFIG, SETTINGS, corpus, tmp_path)
    with pytest.raises(ValueError, match="vocab_size: got 65, allowed: the corpus's 64"):
        train_lm(replace(CONFIG, vocab_size=65), SETTINGS, corpus, tmp_path / "a")
    with pytest.raises(
        ValueError, match="context: got 201, allowed: fewer than the 201 validation"
    ):
        train_lm(replace(CONFIG, context=201), SETTINGS, corpus, tmp_path / "a")
    with pytest.raises(
        ValueError, match="checkpoint_every: got 4, allowed: None, or a multiple of"
    ):
        train_lm(CONFIG, SETTINGS, corpus, tmp_path / "a", checkpoint_every=4)
    with pytest.raises(
        FileNotFoundError, match=r"workdir: got .*which holds no model \(no lm\.json\)"
    ):
        load_lm(tmp_path)
    (tmp_path / "lm.json").write_text("{")
    with pytest.raises(ValueError, match=r"lm\.json: got a file that is damaged"):
        load_lm(tmp_path)
    assert not (tmp_path / "a").exists()


def test_a_loss_that_is_no_number_ends_the_run(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train_steps", lambda state, *_, **__: (state, jnp.nan))
    with pytest.raises(FloatingPointError, match=r"train_loss: got nan in steps 0 to 3, allowed"):
        train_lm(CONFIG, SETTINGS, corpus, tmp_path / "w", progress=False)
    assert not list((tmp_path / "w/checkpoints").iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch_size": 1.0},
        {"lr": 0},
        {"warmup_steps": 12},
        {"lr_end_share": 1.1},
        {"weight_decay": -1},
        {"beta1": 1},
        {"beta2": -0.1},
        {"grad_clip": 0},
        {"eval_every": 5},
        {"eval_windows": True},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(change, unchecked):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}: got .*, allowed: "):
        replace(SETTINGS, **change)


# -------------------------------------------------------------------------------------------
# harvest


def test_harvested_rows_are_the_activations_in_the_order_of_the_text(model, corpus):
    batches = list(harvest(model, corpus.train, corpus.train_documents, POST, batch_size=4))
    n = Packing(12).rows(1000)
    assert (n, len(batches)) == (996, 21)
    x, token_ids, positions, documents = (
        np.concatenate(part) for part in zip(*batches, strict=True)
    )
    windows = jnp.asarray(corpus.train[:996].reshape(83, 12))
    expected = jax.jit(lambda m, w: forward(m, w, (POST,))[1][POST])(model, windows).reshape(
        996, 20
    )
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(token_ids, corpus.train[:996])
    np.testing.assert_array_equal(positions, np.tile(np.arange(12), 83))
    np.testing.assert_array_equal(documents, np.repeat([0, 1, 2, 3], [30, 1, 469, 496]))


@pytest.mark.parametrize(("first", "last"), [(0, 996), (48, 100), (50, 51), (95, 97), (990, 996)])
def test_a_harvest_that_starts_later_gives_the_same_rows_bit_for_bit(model, corpus, first, last):
    given = (model, corpus.train, corpus.train_documents, POST)
    whole = [np.concatenate(part) for part in zip(*harvest(*given, batch_size=4), strict=True)]
    part = harvest(*given, batch_size=4, start=first, stop=last)
    for a, b in zip(whole, zip(*part, strict=True), strict=True):
        assert a[first:last].tobytes() == np.concatenate(b).tobytes()


def test_harvests_that_cannot_be_are_refused_at_once(model, corpus):
    given = (model, corpus.train, corpus.train_documents)
    with pytest.raises(ValueError, match=r"hook: got 'mlp', allowed: blocks\.0\.hook_resid_pre"):
        harvest(*given, "mlp")
    with pytest.raises(ValueError, match="start: got 997, allowed: 0 to stop=996"):
        harvest(*given, POST, start=997)
    with pytest.raises(ValueError, match="stop: got 1000, allowed: None or 1 to 996"):
        harvest(*given, POST, stop=1000)
    with pytest.raises(ValueError, match="batch_size: got 0, allowed: a whole number, 1 or more"):
        harvest(*given, POST, batch_size=0)
    with pytest.raises(ValueError, match="tokens: got 11, allowed: context=12 or more"):
        harvest(model, corpus.train[:11], corpus.train_documents, POST)
    assert list(harvest(*given, POST, start=996)) == []


def packed(corpus, packing, n):
    """Token, position and document of the first n rows, window by window, by hand."""
    rows, first = [], 0
    while len(rows) < n:
        window = [] if packing.bos is None else [(packing.bos, first)]
        while len(window) < packing.context:
            window.append((corpus.train[first], first))
            first += 1
        places = [
            (token, position, np.searchsorted(corpus.train_documents, place, side="right") - 1)
            for position, (token, place) in enumerate(window)
        ]
        rows += places[packing.drop_first :]
    return [list(column) for column in zip(*rows[:n], strict=True)]


PACKINGS = [
    Packing(12, 0),
    Packing(12, 63, True),
    Packing(7, None, True),
    Packing(7, 5),
    Packing(7),
]


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_windows_are_those_made_by_hand(model, corpus, packing):
    batches = harvest(
        model, corpus.train, corpus.train_documents, POST, packing=packing, batch_size=4
    )
    x, *columns = (np.concatenate(part) for part in zip(*batches, strict=True))
    whole = 1000 // (packing.context - (packing.bos is not None))
    kept = packing.context - packing.drop_first
    assert len(x) == packing.rows(1000) == whole * kept
    assert [column.tolist() for column in columns] == packed(corpus, packing, len(x))
    # What the model saw: each window alone, the dropped position included.
    windows = packing.windows(corpus.train, 0, whole)
    assert windows.shape == (whole, packing.context)
    tokens = columns[0].reshape(whole, kept)
    np.testing.assert_array_equal(windows[:, packing.context - kept :], tokens)
    seen = jax.jit(lambda m, w: forward(m, w, (POST,))[1][POST])(model, jnp.asarray(windows))
    expected = seen[:, packing.context - kept :].reshape(len(x), -1)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packing", PACKINGS[:3])
@pytest.mark.parametrize(("first", "last"), [(0, 300), (47, 50), (121, 122), (90, 200)])
def test_a_packed_harvest_that_starts_later_gives_the_same_rows_bit_for_bit(
    model, corpus, packing, first, last
):
    given = (model, corpus.train, corpus.train_documents, POST)
    take = partial(harvest, *given, packing=packing, batch_size=4)
    whole = [np.concatenate(part) for part in zip(*take(stop=400), strict=True)]
    for a, b in zip(whole, zip(*take(start=first, stop=last), strict=True), strict=True):
        assert a[first:last].tobytes() == np.concatenate(b).tobytes()


@pytest.mark.parametrize("packing", [Packing(12), Packing(12, 0, drop_first=True)])
def test_a_harvest_that_starts_later_shows_the_model_the_same_batches(
    model, corpus, packing, monkeypatch
):
    batches = []

    def read(model, windows, hook):
        batches.append(np.asarray(windows))
        return jnp.zeros((*windows.shape, 20))

    monkeypatch.setattr(harvesting, "_read", read)
    given = (model, corpus.train, corpus.train_documents, POST)
    list(harvest(*given, packing=packing, batch_size=4))
    whole = batches.copy()
    batches.clear()
    list(harvest(*given, packing=packing, batch_size=4, start=170, stop=400))
    first, last = 170 // (4 * packing.kept), -(-400 // (4 * packing.kept))
    np.testing.assert_array_equal(batches, whole[first:last])


def test_contexts_of_a_store_end_where_packed_windows_do(model, corpus, tmp_path):
    packing = Packing(6, 0, drop_first=True)
    config = StoreConfig({"name": "test"}, POST, 20)
    with StoreWriter(tmp_path / "store", config) as writer:
        for rows in harvest(
            model, corpus.train, corpus.train_documents, POST, packing=packing, stop=30
        ):
            writer.append(rows.activations, rows.token_ids, rows.positions)
        writer.finish()
    store = Store.open(tmp_path / "store")
    # Five tokens of the text in a window, at its positions 1 to 5.
    assert store.positions(np.arange(30)).tolist() == [1, 2, 3, 4, 5] * 6
    for row in (0, 4, 5, 7, 29):
        tokens, at = store.context(row, 10, 10)
        start = row // 5 * 5
        assert (tokens.tolist(), at) == (corpus.train[start : start + 5].tolist(), row - start)


def test_a_token_that_the_text_cannot_hold_begins_its_windows():
    windows = Packing(3, 70_000).windows(np.arange(4, dtype=np.uint16), 0, 2)
    assert windows.tolist() == [[70_000, 0, 1], [70_000, 2, 3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 0}, "context: got 0, allowed: a whole number, 1 or more"),
        ({"context": 1, "bos": 0}, "context: got 1, allowed: a whole number, 2 or more"),
        ({"context": 1, "drop_first": True}, "context: got 1, allowed: a whole number, 2 or more"),
        ({"bos": -1}, "bos: got -1, allowed: None, or the id of a token"),
        ({"bos": True}, "bos: got True, allowed: None, or the id of a token"),
        ({"drop_first": 1}, "drop_first: got 1, allowed: True or False"),
    ],
)
def test_packings_that_are_none_are_refused(unchecked, change, message):
    with pytest.raises(ValueError, match=message):
        Packing(**{"context": 12, **change})


def test_packings_that_the_model_does_not_fit_are_refused_at_once(model, corpus):
    given = (model, corpus.train, corpus.train_documents, POST)
    with pytest.raises(
        ValueError, match=r"packing\.context: got 13, allowed: up to the model's 12"
    ):
        harvest(*given, packing=Packing(13))
    with pytest.raises(
        ValueError, match=r"packing\.bos: got 64, allowed: below the model's vocab_size=64"
    ):
        harvest(*given, packing=Packing(12, 64))
    with pytest.raises(ValueError, match="stop: got 991, allowed: None or 1 to 990"):
        harvest(*given, packing=Packing(12, 0, True), stop=991)
    with pytest.raises(ValueError, match="tokens: got 10, allowed: context - 1=11 or more"):
        harvest(model, corpus.train[:10], corpus.train_documents, POST, packing=Packing(12, 0))
