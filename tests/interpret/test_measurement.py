"""An SAE on a stored text: what is labelled of it, and that a viewer takes what is shown of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.analysis.mcs import mcs
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter
from saejax.interpret.contexts import evidence
from saejax.interpret.evidence import Label
from saejax.interpret.measurement import dashboard, halves, measure, stored_text
from saejax.interpret.settings import InterpretSettings
from saejax.interpret.viewer.checks import check_dashboard
from saejax.lm.model import GPTConfig, init_gpt
from saejax.sae.params import Params

CONFIG = GPTConfig(30, context=6, n_layers=1, d_model=4, d_mlp=6, n_heads=2)
D, D_SAE, N = CONFIG.d_model, 9, 90
VOCABULARY = tuple(f" w{i}" for i in range(30))
SETTINGS = InterpretSettings(
    dead_threshold=0.5,
    sample_tokens=60,
    n_labelled=2,
    least_firings=4,
    label_contexts=3,
    before=2,
    after=1,
    top_contexts=3,
    intervals=2,
    interval_contexts=2,
    random_contexts=3,
    bins=5,
    related=12,
)
TOKENS = np.random.default_rng(1).integers(0, 30, N)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("measurement") / "store"
    x = np.random.default_rng(2).normal(size=(N, D)).astype(np.float32)
    with StoreWriter(path, StoreConfig({"seed": 1}, "blocks.0.hook_resid_post", D)) as writer:
        writer.append(x, TOKENS, np.tile(np.arange(6), N // 6))
        writer.finish()
    return Store.open(path)


@pytest.fixture(scope="module")
def params():
    """The first latent never fires, the second only below the threshold."""
    rng = np.random.default_rng(3)
    W_dec = rng.normal(size=(D_SAE, D)).astype(np.float32)
    W_enc, b_enc = W_dec.T.copy(), np.zeros(D_SAE, np.float32)
    W_enc[:, 1] *= 0.01
    b_enc[0] = -100
    return Params(W_enc, b_enc, W_dec, rng.normal(size=D).astype(np.float32))


@pytest.fixture(scope="module")
def text(store):
    return stored_text(store, VOCABULARY, SETTINGS.sample_tokens)


@pytest.fixture(scope="module")
def dense(store, params, text):
    x = np.float64(store.rows(text.rows)) - params.b_dec
    return np.maximum(x @ params.W_enc + params.b_enc, 0)


@pytest.fixture(scope="module")
def measured(params, store, text):
    return measure(params, store, text, SETTINGS)


@pytest.fixture(scope="module")
def board(params, measured, text):
    model = init_gpt(CONFIG, jax.random.key(0))
    labels = [Label(f"label {i}", "test") for i in range(len(measured.chosen.latents))]
    others = [("other", np.random.default_rng(4).normal(size=(3, D)).astype(np.float32))]
    return dashboard("own", {"l1": 0.1}, params, measured, labels, others, model, text, SETTINGS)


# --------------------------------------------------------------------------------------- measured


def test_a_sample_is_whole_sequences_with_their_tokens(text):
    assert text.sample.bounds.tolist() == list(range(0, 66, 6))
    assert len(text.rows) == 60
    assert text.sample.tokens.tolist() == TOKENS[text.rows].tolist()
    assert text.sample.vocabulary == VOCABULARY


def test_a_latent_is_dead_that_is_never_above_the_threshold(measured, dense):
    dead = dense.max(0) <= 0.5
    assert dead[:2].all()
    assert dense[:, 1].max() > 0
    assert not dead[2:].all()
    assert measured.dead == dead.mean()


def test_the_labelled_latents_are_those_of_highest_and_lowest_selectivity(measured, dense, text):
    n = (dense > 0).sum(0)
    selectivity = {
        j: dense[:, j].sum() / n[j] / np.log(n[j] + 1) for j in range(D_SAE) if n[j] >= 4
    }
    ranked = sorted(selectivity, key=lambda j: -selectivity[j])
    assert measured.chosen.latents.tolist() == [*ranked[:2], *ranked[-2:]]
    expected = [evidence(measured.h, text.sample, j, 3, 2, 1) for j in [*ranked[:2], *ranked[-2:]]]
    assert measured.evidence == expected
    corr = np.corrcoef(dense[:, measured.chosen.latents].T)
    np.testing.assert_allclose(measured.correlation, corr, atol=1e-5)


def test_an_sae_that_never_fires_has_nothing_to_label(params, store, text):
    silent = params._replace(b_enc=np.full(D_SAE, -1e6, np.float32))
    got = measure(silent, store, text, SETTINGS)
    assert (got.dead, got.evidence, got.correlation.shape) == (1.0, [], (0, 0))
    assert np.isnan(halves(got.correlation, 0)).all()


# --------------------------------------------------------------------------------------- dashboard


def test_a_viewer_takes_the_dashboard(board):
    check_dashboard(board)
    assert [a.shape[0] for a in (board.firings, board.rows, board.effects.gains)] == [D_SAE] * 3
    assert board.rows.shape[1] == board.groups[-1].last == 3 + 2 * 2 + 3
    assert board.activations.shape == (D_SAE, 10, 4)
    assert board.effects.span.shape == (D_SAE, 2)
    assert board.effects.promoted.shape == board.neighbours.latents.shape == (D_SAE, 12)


def test_a_dashboard_shows_what_was_measured(board, measured, dense, params):
    n = (dense > 0).sum(0)
    assert board.firings.tolist() == n.tolist()
    np.testing.assert_allclose(board.highest, dense.max(0), rtol=1e-4, atol=1e-6)
    assert board.dead.tolist() == (dense.max(0) <= 0.5).tolist()
    assert board.histogram.sum(1).tolist() == n.tolist()
    assert np.isnan(board.selectivity).tolist() == (n < 4).tolist()
    expected = np.where(n >= 4, measured.statistics.selectivity, np.nan)
    np.testing.assert_allclose(board.selectivity, expected, rtol=1e-6)
    assert list(board.labels) == measured.chosen.latents.tolist()
    assert board.labels[int(measured.chosen.latents[1])].text == "label 1"
    theirs = np.random.default_rng(4).normal(size=(3, D)).astype(np.float32)
    np.testing.assert_array_equal(board.elsewhere[0].mcs, mcs(params.W_dec, theirs))
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = np.nan_to_num(np.corrcoef(dense.T))
    np.fill_diagonal(corr, -1)
    best = np.where(corr.max(1) > 1e-6, corr.max(1), 0)
    np.testing.assert_allclose(board.correlated.values[:, 0], best, atol=1e-4)


def test_the_first_slot_of_a_latent_is_its_highest_activation(board):
    live = board.firings > 0
    np.testing.assert_array_equal(board.activations[live, 0, board.before], board.highest[live])
    assert (board.rows[~live] == -1).all()


def test_as_many_labels_as_labelled_latents_are_needed(params, measured, text):
    model = init_gpt(CONFIG, jax.random.key(0))
    with pytest.raises(ValueError, match="zip"):
        dashboard("own", {}, params, measured, [Label("one", "test")], [], model, text, SETTINGS)


# --------------------------------------------------------------------------------------- halves


def test_halves_by_hand():
    correlation = np.array(
        [
            [1, 0.5, 0.1, 0.2, 0.3],
            [0.5, 1, 0.4, 0.5, 0.6],
            [0.1, 0.4, 1, -0.1, 0.0],
            [0.2, 0.5, -0.1, 1, 0.7],
            [0.3, 0.6, 0.0, 0.7, 1],
        ]
    )
    within, across = halves(correlation, 2)
    np.testing.assert_allclose(within, (0.5 - 0.1 + 0.0 + 0.7) / 4)
    np.testing.assert_allclose(across, (0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6) / 6)


def test_halves_of_blocks_are_the_numbers_of_the_blocks():
    top = np.arange(10) < 4
    correlation = np.where(top[:, None] == top, 0.8, -0.2) + 0.2 * np.eye(10)
    np.testing.assert_allclose(halves(correlation, 4), (0.8, -0.2))


def test_halves_without_pairs_are_nan():
    for n, n_top, expected in ((1, 1, [True, True]), (2, 1, [True, False]), (2, 2, [False, True])):
        assert np.isnan(halves(np.full((n, n), 0.5), n_top)).tolist() == expected


# --------------------------------------------------------------------------------------- settings


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [-1, 2.0, True, "3", None, 2**31, float("nan")], ids=repr)
@pytest.mark.parametrize(
    ("name", "least"),
    [
        *(
            (name, 1)
            for name in (
                "sample_tokens",
                "eval_windows",
                "n_labelled",
                "least_firings",
                "label_contexts",
                "top_contexts",
                "intervals",
                "interval_contexts",
                "random_contexts",
                "bins",
                "related",
            )
        ),
        ("before", 0),
        ("after", 0),
    ],
)
def test_a_number_that_is_none_is_refused_by_name(name, least, value):
    with pytest.raises(ValueError, match="allowed: ") as error:
        InterpretSettings(**{name: value})
    message = f"{name}: got {value!r}, allowed: a whole number from {least} to 2^31 - 1"
    assert str(error.value) == message
    if least == 1:
        with pytest.raises(ValueError, match=f"^{name}: got 0, allowed"):
            InterpretSettings(**{name: 0})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan"), True, "0", None], ids=repr)
def test_a_threshold_that_is_none_is_refused_by_name(value):
    with pytest.raises(ValueError, match="allowed: ") as error:
        InterpretSettings(dead_threshold=value)
    assert str(error.value) == f"dead_threshold: got {value!r}, allowed: 0 or more (a number)"


@pytest.mark.usefixtures("unchecked")
def test_settings_of_numpy_and_jax_become_pythons_numbers():
    got = InterpretSettings(
        dead_threshold=np.float32(0.5),
        sample_tokens=np.int64(7),
        before=jnp.int32(0),
        after=np.uint8(0),
    )
    assert got == InterpretSettings(dead_threshold=0.5, sample_tokens=7, before=0, after=0)
    types = type(got.dead_threshold), type(got.sample_tokens), type(got.before), type(got.after)
    assert types == (float, int, int, int)


def test_the_defaults_are_those_of_the_text():
    got = InterpretSettings()
    assert (got.dead_threshold, got.n_labelled, got.least_firings) == (0.07, 25, 10)
