"""Telling a user's functions apart: by what they compute, not by what they are called."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def program(function: Callable[..., Any], *arguments: Any) -> str:
    """SHA-256 of what a function computes: its traced program, and the arrays that it captured.

    Args:
        function: a pure function.
        arguments: what it is traced with, arrays or `jax.ShapeDtypeStruct`.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    # Places of Python objects in memory are another in each process.
    sha = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr)).encode())
    for captured in traced.consts:
        is_key = jnp.issubdtype(captured.dtype, jax.dtypes.prng_key)
        sha.update(np.asarray(jax.random.key_data(captured) if is_key else captured).tobytes())
    return sha.hexdigest()
