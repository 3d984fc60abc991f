"""Fingerprints: the same wherever an array lies, and another one for another array."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from saejax.core import fingerprint
from saejax.core.fingerprint import bits, fingerprints

DTYPES = [
    np.bool_,
    np.int8,
    np.uint16,
    np.int32,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    np.float32,
    np.float64,
    np.int64,
]


def words(array):
    return fingerprints({"a": array})["a"]


def by_hand(values):
    """The equation, in Python's whole numbers."""

    def mix(h):
        h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
        h = (h ^ (h >> 13)) * 0xC2B2AE35 % 2**32
        return h ^ (h >> 16)

    first = [mix(v ^ mix(i)) for i, v in enumerate(values)]
    return sum(first) % 2**32, sum(mix(v ^ i) for i, v in enumerate(first)) % 2**32


def some(dtype, shape=(3, 5)):
    return (
        np.random.default_rng(0)
        .integers(0, 2, (*shape, np.dtype(dtype).itemsize), np.uint8)
        .view(dtype)[..., 0]
    )


def test_the_words_are_those_of_the_equation():
    values = np.random.default_rng(0).integers(0, 2**32, (2, 3, 4), np.uint32)
    assert words(jnp.asarray(values)) == by_hand(values.ravel().tolist())
    assert words(jnp.float32(1.5)) == by_hand([0x3FC00000])
    assert words(np.array([1.5, -2.0])) == by_hand([0, 0x3FF80000, 0, 0xC0000000])
    assert words(jnp.array([True, False])) == by_hand([1, 0])
    assert words(jnp.zeros((0, 3))) == (0, 0)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if np.dtype(d).itemsize < 8])
def test_host_and_device_agree(dtype):
    array = some(dtype)
    assert words(array) == words(jnp.asarray(array))
    assert words(array.T) == words(jnp.asarray(array.T)) != words(array)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_every_flipped_bit_changes_both_words(dtype):
    array = some(dtype, (3,))
    whole, raw, found = words(array), array.tobytes(), set()
    for bit in range(8 * len(raw)):
        data = bytearray(raw)
        data[bit // 8] ^= 1 << bit % 8
        one, two = words(np.frombuffer(bytes(data), dtype))
        assert one != whole[0]
        assert two != whole[1]
        found.add((one, two))
    assert len(found) == 8 * len(raw)


def test_what_cancels_in_a_plain_sum_does_not():
    array = np.random.default_rng(0).normal(size=64).astype(np.float32)
    signs, swapped, moved = array.copy(), array.copy(), np.roll(array, 1)
    signs[[3, 40]] *= -1
    swapped[[3, 40]] = array[[40, 3]]
    bumped = array.view(np.uint32).copy()
    bumped[3] += 1
    bumped[40] -= 1
    found = [words(a) for a in (array, signs, swapped, moved, bumped.view(np.float32))]
    assert len({one for one, _ in found}) == len({two for _, two in found}) == 5


def test_trees_of_the_same_shapes_are_compiled_once():
    before = fingerprint._all_words._cache_size()
    for value in range(3):
        fingerprints({"a": jnp.full((3, 11), value), "b": jnp.full(13, value)})
    assert fingerprint._all_words._cache_size() == before + 1


def test_dtypes_that_have_no_fingerprint_are_known():
    assert [bits(d) for d in DTYPES] == [8, 8, 16, 32, 16, 16, 8, 32, 64, 64]
    assert not any(
        map(bits, (np.complex64, ml_dtypes.int4, np.longdouble, np.dtype("U3"), object, ">f4"))
    )
