"""Training of the language model: a step by hand, resuming, and what is refused."""

import json
import math
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.tiny_lm import CONFIG, losses_of

from saejax.lm import training
from saejax.lm.loss import token_losses
from saejax.lm.model import n_parameters
from saejax.lm.settings import LMSettings
from saejax.lm.steps import draw_windows, learning_rate, optimizer, start, train_steps
from saejax.lm.training import load_lm, spread_windows, train_lm

pytestmark = pytest.mark.usefixtures("pieces")


SETTINGS = LMSettings(
    steps=12, batch_size=4, lr=1e-2, warmup_steps=3, eval_every=3, eval_windows=5, seed=3
)
gradient_of = jax.jit(jax.value_and_grad(lambda m, w: token_losses(m, w).mean()))


# ----------------------------------------------------------------------------------------- training


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
    write = training.files.append_rows

    def append(file, rows):
        write(file, rows)
        if rows[0]["step"] == 9:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.files, "append_rows", append)
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
    monkeypatch.setattr(training, "train_steps", None)
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
        FileNotFoundError, match=r"lm\.json: got no file, allowed: the lm\.json of a language"
    ):
        load_lm(tmp_path)
    (tmp_path / "lm.json").write_text("{")
    with pytest.raises(ValueError, match=r"lm\.json: got a damaged file \(.*\), allowed: JSON"):
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
