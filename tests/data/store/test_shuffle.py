"""The shuffled order of rows: every row once, every order as likely."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from saejax.data.store.shuffle import Permutation, shuffled

# ------------------------------------------------------------------------------------------- order


@given(st.integers(1, 3000), st.lists(st.integers(0, 2**32 - 1), max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_shuffled_order_holds_every_row_once(n, key):
    assert np.array_equal(np.sort(Permutation(n, *key)(np.arange(n))), np.arange(n))


@given(st.integers(2**33, 2**62), st.integers(0, 2**32 - 1), st.integers(0, 2**62))
@settings(max_examples=40, deadline=None)
def test_rows_beyond_32_bits_are_ordered_without_a_table(n, key, start):
    places = (start + np.arange(200)) % n
    rows = Permutation(n, key)(places)
    assert rows.min() >= 0
    assert rows.max() < n
    assert len(set(rows.tolist())) == 200
    assert Permutation(n, key)(places[[7]])[0] == rows[7]


def test_every_order_of_four_rows_is_equally_likely():
    orders = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    seen = [orders[tuple(Permutation(4, 1, s, 0)(np.arange(4)).tolist())] for s in range(720)]
    assert chisquare(np.bincount(seen, minlength=24)).pvalue > 0.001


def test_every_row_comes_to_every_place_equally_often():
    n, times = 40, 500
    counts = np.zeros((n, n))
    for seed in range(times):
        counts[np.arange(n), Permutation(n, 1, seed, 0)(np.arange(n))] += 1
    statistic = ((counts - times / n) ** 2 / (times / n)).sum()
    freedom = (n - 1) ** 2
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_neighbours_do_not_stay_together():
    rows = Permutation(100_003, 1, 0, 0)(np.arange(100_003))
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 4 / 100_003**0.5
    near = (np.abs(np.diff(rows)) < 1000).mean()
    assert near == pytest.approx(0.02, abs=0.002)


def test_the_order_is_the_same_in_every_version():
    assert Permutation(10, 1, 2, 3)(np.arange(10)).tolist() == [5, 8, 6, 1, 4, 3, 2, 7, 9, 0]
    far = [974324556334, 438411395640, 889537329050]
    assert Permutation(10**12, 5)(np.arange(3)).tolist() == far


@pytest.mark.parametrize(("n", "key"), [(1, (0,)), (2, (1,)), (7, (3, 4)), (1000, (1, 0, 9))])
def test_the_order_is_a_feistel_network_walked_into_the_rows(n, key):
    bits = max(2, (n - 1).bit_length())
    low, high = bits - bits // 2, bits // 2
    keys = np.random.SeedSequence(key).generate_state(max(8, 64 // bits), np.uint64).tolist()

    def mixed(x, k, width):
        x = (x + k) * 0xBF58476D1CE4E5B9 % 2**64
        return ((x ^ x >> 32) * 0x94D049BB133111EB % 2**64) >> (64 - width)

    def walked(x):
        left, right = divmod(x, 2**low)
        for turn, k in enumerate(keys):
            if turn % 2:
                right ^= mixed(left, k, low)
            else:
                left ^= mixed(right, k, high)
        x = left * 2**low + right
        return x if x < n else walked(x)

    assert Permutation(n, *key)(np.arange(n)).tolist() == [walked(x) for x in range(n)]


def test_an_epoch_holds_every_row_once_and_no_two_are_alike():
    stream = shuffled(11, 3, 0, 44).reshape(4, 11)
    assert (np.sort(stream, axis=1) == np.arange(11)).all()
    assert len({tuple(epoch) for epoch in stream.tolist()}) == 4
    assert shuffled(11, 0, 11, 22).tolist() != shuffled(11, 1, 0, 11).tolist()


@given(st.integers(3, 20), st.integers(0, 60), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_any_part_of_the_stream_can_be_asked_for(n, start, length):
    whole = shuffled(n, 5, 0, start + length)
    assert np.array_equal(shuffled(n, 5, start, start + length), whole[start:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Permutation(0), "n: got 0, allowed: from 1"),
        (lambda: Permutation(3, 2**32), "key: got 4294967296, allowed: a whole"),
        (lambda: Permutation(3, 1, 2, 3, 4, 5), "key: got 5 numbers, allowed: up to 4"),
        (lambda: shuffled(3, 0, 2, 2), "stop: got 2, allowed: above start=2"),
        (lambda: shuffled(3, 0, -1, 2), "start: got -1, allowed: 0 or more"),
        (lambda: shuffled(3, -1, 0, 2), "key: got -1, allowed"),
    ],
)
def test_orders_that_do_not_exist_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("place", [-1, 5])
def test_a_place_outside_the_order_is_refused(place):
    with pytest.raises(IndexError, match="places: got"):
        Permutation(5)(np.array([0, place]))
