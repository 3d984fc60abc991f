"""One-to-one pairing of latents and features, against trying every pairing."""

import itertools

import numpy as np
import pytest

from saejax.metrics.one_to_one import assign, mcc

RNG = np.random.default_rng(0)
A, B = np.float32(RNG.normal(size=(4, 3))), np.float32(RNG.normal(size=(6, 3)))


def cosines(A, B):
    A, B = (np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True) for x in (A, B))
    return np.abs(A @ B.T)


def test_mcc_is_the_best_mean_over_all_pairings():
    cos = cosines(A, B)
    best = max(np.mean(cos[range(4), list(b)]) for b in itertools.permutations(range(6), 4))
    greedy = cos.max(1).mean()
    assert greedy > best + 0.01, "pairing must matter, or the test shows nothing"
    np.testing.assert_allclose(mcc(A, B), best, rtol=1e-6)


def test_divisor_is_the_size_of_the_smaller_set():
    features = np.eye(5, dtype=np.float32)
    assert mcc(features[:2], features) == 1.0
    assert mcc(features, features[:2]) == 1.0


def test_pairs_say_who_belongs_to_whom():
    order, noise = RNG.permutation(6)[:4], np.float32(RNG.normal(size=(4, 3)))
    pairs = assign(B[order] + 0.01 * noise, B)
    np.testing.assert_array_equal(pairs.a, range(4))
    np.testing.assert_array_equal(pairs.b, order)
    np.testing.assert_allclose(
        pairs.cosine, cosines(B[order] + 0.01 * noise, B)[range(4), order], rtol=1e-6
    )


def test_order_sign_length_and_side_do_not_matter():
    expected = mcc(A, B)
    scale = RNG.uniform(0.1, 9, (4, 1)) * RNG.choice([-1, 1], (4, 1))
    for other in (mcc(A[RNG.permutation(4)], B[RNG.permutation(6)]), mcc(A * scale, B), mcc(B, A)):
        np.testing.assert_allclose(other, expected, rtol=1e-6)


def test_zero_row_has_cosine_zero_and_no_cosine_is_above_one():
    dead = np.concatenate([A, np.zeros((1, 3), np.float32)])
    assert mcc(dead, A) == pytest.approx(1.0)
    assert mcc(np.zeros((2, 3)), A) == 0.0
    many = np.float32(RNG.normal(size=(200, 50)))
    assert assign(many, many).cosine.max() <= 1.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 3)), "got no rows, allowed: one or more"),
        (np.array([[1.0, np.nan, 0.0]]), "got NaN or infinity, allowed: finite numbers"),
        (np.array([[1.0, np.inf, 0.0]]), "got NaN or infinity, allowed: finite numbers"),
    ],
)
def test_what_has_no_pairing_is_refused_by_name(rows, message):
    with pytest.raises(ValueError, match=f"^A: {message}"):
        mcc(rows, B)
    with pytest.raises(ValueError, match=f"^B: {message}"):
        mcc(A, rows)
