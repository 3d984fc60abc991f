"""A hash of what a function computes, which tells users' functions apart whatever their names."""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Functions with a derivative of their own, which a program only shows once it is differentiated.
CUSTOM = ("custom_jvp", "custom_vjp")


def program(function: Callable[..., Any], *arguments: Any, trained: bool = False) -> str:
    """SHA-256 of what a function computes: its traced program, and the arrays that it captured.

    Args:
        function: a pure function.
        arguments: what it is traced with, arrays or `jax.ShapeDtypeStruct`.
        trained: whether its gradient counts too, where a derivative was written by hand.
    """

    def afresh(*arguments: Any) -> Any:
        # JAX keeps what it traced of a function, which may read what has changed since.
        return function(*arguments)

    traced = jax.make_jaxpr(afresh)(*arguments)
    sha = hashlib.sha256()
    _add(sha, traced)
    if trained and any(e.primitive.name.startswith(CUSTOM) for e in _equations(traced)):
        every = tuple(range(len(arguments)))
        _add(sha, jax.make_jaxpr(jax.grad(afresh, argnums=every))(*arguments))
    return sha.hexdigest()


def _add(sha: Any, traced: Any) -> None:
    # Addresses of Python objects differ from process to process.
    sha.update(re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr)).encode())
    inner = (part for e in _equations(traced) for part in _inner(e))
    for captured in (c for part in (traced, *inner) for c in getattr(part, "consts", ())):
        is_key = jnp.issubdtype(captured.dtype, jax.dtypes.prng_key)
        sha.update(np.asarray(jax.random.key_data(captured) if is_key else captured).tobytes())


def _equations(traced: Any) -> Iterator[Any]:
    """All equations of a program; those inside an equation come after it."""
    for equation in getattr(traced, "jaxpr", traced).eqns:
        yield equation
        for part in _inner(equation):
            yield from _equations(part)


def _inner(equation: Any) -> list[Any]:
    """The programs inside an equation: bodies of `jit`, `scan`, `cond` and the like.

    The text of the outer program contains theirs, but not the arrays that they captured.
    """

    def is_program(part: Any) -> bool:
        return hasattr(part, "eqns") or hasattr(part, "jaxpr")

    parts = jax.tree.leaves(list(equation.params.values()), is_leaf=is_program)
    return [part for part in parts if is_program(part)]
