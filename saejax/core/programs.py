"""Compiled programs that are kept: what was compiled once in a process is not compiled again.

JAX keeps what it compiled for a function, but a fresh lambda or partial is another function to it.
Here a function and the values that are fixed in it make the same program wherever they meet.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saejax.core.devices import sharding

# Programs of a few dozen sweeps; the least recently used one goes first.
KEPT = 256
Specs = PartitionSpec | tuple[PartitionSpec, ...]
# What was compiled for which shapes, as long as the jitted function is kept.
_EXECUTABLES: WeakKeyDictionary[Any, dict] = WeakKeyDictionary()


def jitted(
    f: Callable[..., Any],
    *fixed: Any,
    mesh: Mesh | None = None,
    out: Specs | None = None,
    donate: tuple[int, ...] = (),
) -> Any:
    """`jax.jit` of a function with its first arguments fixed, the same object each time.

    Args:
        f: a function that stands in a module: a fresh one is compiled again.
        fixed: its first arguments, compared by value; one that cannot be hashed makes a program
            that is not kept.
        mesh: the devices, None for a single one.
        out: how each result is divided over them; None leaves it to the compiler.
        donate: which of the other arguments may be overwritten.
    """
    try:
        return _jitted(f, fixed, mesh, out, donate)
    except TypeError:  # no hash
        return _jitted.__wrapped__(f, fixed, mesh, out, donate)


@lru_cache(KEPT)
def _jitted(
    f: Callable[..., Any],
    fixed: tuple,
    mesh: Mesh | None,
    out: Specs | None,
    donate: tuple[int, ...],
) -> Any:
    layout = None
    if mesh is not None and out is not None:
        place = partial(sharding, mesh)
        layout = place(out) if isinstance(out, PartitionSpec) else tuple(map(place, out))
    return jax.jit(partial(f, *fixed), donate_argnums=donate, out_shardings=layout)


def compiled(run: Any, *arguments: Any) -> Any:
    """What `jitted` gave, compiled for arrays or `ShapeDtypeStruct` before it is called."""
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tuple(map(shape_of, leaves))
    kept = _EXECUTABLES.setdefault(run, {})
    if (tree, shapes) not in kept:
        kept[tree, shapes] = run.lower(*jax.tree.unflatten(tree, shapes)).compile()
    return kept[tree, shapes]


def shape_of(a: Any) -> jax.ShapeDtypeStruct:
    """What an array is like and where it lies, without it."""
    placed = isinstance(a, jax.Array) and isinstance(a.sharding, NamedSharding)
    return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding if placed else None)
