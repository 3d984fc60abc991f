"""Fingerprints of arrays: 64 bits that change when a bit of the array does.

They tell an array from a damaged copy. A fingerprint is exact, and the same wherever the array
lies: on one device, many devices or the host.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

ALLOWED = "bool, or whole or real numbers of 8, 16, 32 or 64 bits"


def bits(dtype: Any) -> int:
    """Bits of an element of a dtype; 0 where no fingerprint can be taken of it."""
    if dtype == np.bool_:
        return 8
    real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    if not real or not np.dtype(dtype).isnative:
        return 0
    info = jnp.finfo(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype)
    return int(info.bits) if info.bits in (8, 16, 32, 64) else 0


def fingerprints(arrays: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Two words of 32 bits for each array, by its name.

    With v_i the elements as unsigned words (two words for an element of 64 bits), counted from 0 in
    row-major order, and m a mixing of 32 bits into 32:

        first = sum_i m(v_i ^ m(i)),  second = sum_i m(m(v_i ^ m(i)) ^ i)   (modulo 2^32)

    m is one to one, so a change of a single v_i always changes both sums; of several, both stay
    with probability 2^-64. A plain weighted sum would not do: two flipped signs cancel in any. The
    sums of whole numbers are exact in any order, so they do not depend on how an array is sharded.

    Args:
        arrays: NumPy's, or JAX's of any sharding; where they belong to several processes, all must
            call. Compiled once for arrays of the same shapes.

    Source: m is the finaliser of MurmurHash3 by Austin Appleby.
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
    index = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index = index + along * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    one = _mix(words ^ _mix(index))
    two = _mix(one ^ index)
    zero = jnp.uint32(0)

    def add(a: tuple, b: tuple) -> tuple:
        return a[0] + b[0], a[1] + b[1]

    # Both sums in one pass: twice as fast on a CPU as one after the other.
    return jax.lax.reduce((one, two), (zero, zero), add, tuple(range(words.ndim)))


def _mix(h: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
