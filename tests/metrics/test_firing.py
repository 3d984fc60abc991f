"""What a latent's firing says about its feature, counted by hand in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.metrics import firing, measures
from saejax.metrics.firing import Counts
from saejax.sae.params import Params

RNG = np.random.default_rng(0)
BATCH, D_SAE, N_FEATURES, D_IN = 200, 7, 11, 5
W_DEC = np.float32(RNG.normal(size=(D_SAE, D_IN)))
F = np.float32(RNG.normal(size=(N_FEATURES, D_IN)))
H = np.float32(RNG.normal(size=(BATCH, D_SAE)).clip(0))
CODES = np.float32(RNG.normal(size=(BATCH, N_FEATURES)).clip(0))
# Latent 0 is dead, latent 1's feature never occurs, latent 2 is perfect.
FEATURE_OF = np.int32([3, 4, 5, 5, 0, 10, 3])
H[:, 0] = 0
CODES[:, 4] = 0
H[:, 2] = CODES[:, 5]


def by_hand(h=H, codes=CODES, feature_of=FEATURE_OF):
    rows = []
    for j, i in enumerate(feature_of):
        fires, active = h[:, j] > 0, codes[:, i] > 0
        tp, fp, fn = (fires & active).sum(), (fires & ~active).sum(), (~fires & active).sum()
        precision = tp / (tp + fp) if tp + fp else 0.0
        recall = tp / (tp + fn) if tp + fn else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows.append((precision, recall, f1))
    return np.array(rows)


def closest(W, features=F):
    """Each latent's feature."""
    zeros = jnp.zeros((D_IN, len(W)))
    return measures.recovery(Params(zeros, zeros[0], jnp.array(W)), jnp.array(features)).feature_of


def measured(h=H, codes=CODES, feature_of=FEATURE_OF):
    return firing.scores(firing.counts(jnp.array(h), jnp.array(codes), jnp.array(feature_of)))


def test_scores_are_the_means_over_latents_of_what_is_counted_by_hand():
    rows = by_hand()
    np.testing.assert_array_equal(rows[:3], [[0, 0, 0], [0, 0, 0], [1, 1, 1]])
    got = measured()
    assert list(got) == ["precision", "recall", "f1"]
    np.testing.assert_allclose(list(got.values()), rows.mean(0), rtol=1e-6)


def test_counts_of_batches_add_up_to_those_of_all_samples():
    whole = firing.counts(jnp.array(H), jnp.array(CODES), jnp.array(FEATURE_OF))
    parts = [
        firing.counts(jnp.array(H[a:b]), jnp.array(CODES[a:b]), jnp.array(FEATURE_OF))
        for a, b in ((0, 50), (50, 51), (51, BATCH))
    ]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda *x: sum(x), *parts), whole)


def test_precision_falls_with_false_alarms_and_recall_with_misses():
    active = np.float32([[1], [1], [0], [0]])
    eager, shy = (
        measured(np.ones((4, 1), "f"), active, [0]),
        measured(active * [[1], [0], [0], [0]], active, [0]),
    )
    assert (eager["precision"], eager["recall"]) == (0.5, 1.0)
    assert (shy["precision"], shy["recall"]) == (1.0, 0.5)
    np.testing.assert_allclose([eager["f1"], shy["f1"]], 2 / 3, rtol=1e-6)


def test_scores_of_nothing_that_fired_are_zero_not_nan():
    zero = jnp.zeros(3)
    assert set(map(float, firing.scores(Counts(zero, zero, zero)).values())) == {0.0}


def test_order_of_latents_features_and_samples_does_not_matter():
    latents, features, samples = (RNG.permutation(n) for n in (D_SAE, N_FEATURES, BATCH))
    moved = np.argsort(features)[FEATURE_OF[latents]]
    got = measured(H[samples][:, latents], CODES[samples][:, features], moved)
    np.testing.assert_allclose(list(got.values()), list(measured().values()), rtol=1e-6)


@pytest.mark.parametrize("n", [1, D_SAE])
def test_a_latents_feature_has_the_largest_cosine_of_either_sign(n):
    W = W_DEC[:n] * RNG.uniform(0.1, 9, (n, 1)).astype("f")
    cos = (W @ F.T) / np.outer(np.linalg.norm(W, axis=1), np.linalg.norm(F, axis=1))
    best = np.abs(cos).argmax(1)
    if n > 1:
        assert (cos[np.arange(n), best] < 0).any(), "a case that a signed cosine would get wrong"
    np.testing.assert_array_equal(closest(W), best)
    np.testing.assert_array_equal(closest(-W, 5 * F), best)


def test_uniqueness_counts_the_features_that_some_latent_has():
    assert firing.uniqueness(jnp.array(FEATURE_OF), N_FEATURES) == np.float32(5 / 7)
    assert firing.uniqueness(jnp.arange(4), N_FEATURES) == 1.0
    assert firing.uniqueness(jnp.full(4, 10), N_FEATURES) == 0.25


def test_cells_can_be_mapped():
    def one(W, h, codes):
        feature_of = closest(W)
        scores = firing.scores(firing.counts(h, codes, feature_of))
        return scores | {"uniqueness": firing.uniqueness(feature_of, N_FEATURES)}

    cells = [
        (W_DEC, H, CODES),
        (W_DEC[::-1], H[:, ::-1] * RNG.integers(0, 2, H.shape), CODES[::-1]),
    ]
    mapped = jax.jit(jax.vmap(one))(
        *(jnp.stack([jnp.array(x, jnp.float32) for x in z]) for z in zip(*cells, strict=True))
    )
    for i, cell in enumerate(cells):
        alone = one(*(jnp.array(x, jnp.float32) for x in cell))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), mapped, alone
        )
