"""Fingerprints of arrays: 64 bits that change when a bit of the array does, however it is laid out.

A file on a disk can be damaged without anybody noticing. Who keeps the fingerprint beside the array
notices: it is exact, and the same for one device, many devices and the host.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

ALLOWED = "bool, or whole or real numbers of 8, 16, 32 or 64 bits"


def bits(dtype: Any) -> int:
    """Bits of an element whose fingerprint can be taken; 0 for every other dtype."""
    if dtype == np.bool_:
        return 8
    real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    if not real or not np.dtype(dtype).isnative:
        return 0
    info = jnp.finfo(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype)
    return int(info.bits) if info.bits in (8, 16, 32, 64) else 0


def fingerprints(arrays: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Two words of 32 bits for each array.

    With v_i the elements as unsigned words (two words for an element of 64 bits), counted from 0 in
    row-major order, and m a mixing of 32 bits into 32:

        first = sum_i m(v_i ^ m(i)),  second = sum_i m(m(v_i ^ m(i)) ^ i)   (modulo 2^32)

    m is one to one, so a change of a single v_i always changes both sums; of several, both stay
    with probability 2^-64. A plain weighted sum would not do: two flipped signs cancel in any. The
    sums of whole numbers are exact in any order, so they do not depend on how an array is sharded.

    Args:
        arrays: NumPy's, or JAX's of any sharding, also of several processes, which then all must
            call; of dtypes for which `bits` is not 0. One compilation for all of the same shapes.

    Returns:
        Both words by name.

    Source:
        m is the finaliser of MurmurHash3 by Austin Appleby.
    """
    groups: dict[frozenset, dict[str, Any]] = {}
    for name, array in arrays.items():
        # One program runs on one set of devices.
        on_device = isinstance(array, jax.Array)
        devices = frozenset(array.sharding.device_set) if on_device else frozenset()
        groups.setdefault(devices, {})[name] = array if on_device else _host_words(array)
    words = jax.device_get([_all_words(group) for group in groups.values()])
    return {name: (int(one), int(two)) for group in words for name, (one, two) in group.items()}


def _host_words(array: np.ndarray) -> np.ndarray:
    """A NumPy array as unsigned words: 64 bits do not pass through JAX as they are."""
    width = min(bits(array.dtype), 32)
    return np.ascontiguousarray(array).reshape(-1).view(f"uint{width}")


@jax.jit
def _all_words(group: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: _two_words(array) for name, array in group.items()}


def _two_words(array: Array) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{min(bits(array.dtype), 32)}"))
    words = words.astype(jnp.uint32)
    at = jnp.zeros(words.shape, jnp.uint32)
    for axis, stride in _strides(words.shape):
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        at = at + along * jnp.uint32(stride % 2**32)
    one = _mix(words ^ _mix(at))
    two = _mix(one ^ at)
    zero = jnp.uint32(0)
    # Both sums in one pass: twice as fast on a CPU as one after the other.
    return jax.lax.reduce((one, two), (zero, zero), _add, tuple(range(words.ndim)))


def _strides(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Each axis with the number of elements that a step along it passes."""
    stride = 1
    for axis in reversed(range(len(shape))):
        yield axis, stride
        stride *= shape[axis]


def _add(a: tuple, b: tuple) -> tuple:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _mix(h: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
