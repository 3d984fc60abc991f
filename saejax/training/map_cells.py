"""A function of one cell, mapped over the cells of a width group."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def block_shape(cell_batch: int, n_source: int, n_hyper: int) -> tuple[int, int]:
    """Sources and hypers of the cells that are side by side.

    Args:
        cell_batch: cells in a block.
        n_source: number of sources.
        n_hyper: number of hypers.
    """
    return max(1, min(cell_batch // n_hyper, n_source)), min(cell_batch, n_hyper)


def map_cells(
    f: Callable[[Any, Any, Any], Any],
    cells: Any,
    hyper: Any,
    per_source: Any,
    cell_batch: int,
    into: Any = None,
) -> Any:
    """`f(cell, its hyper, its source's part)` for every cell of a group, `cell_batch` at a time.

    With `cell_batch` at least the number of cells this is a plain nested vmap, in which the hypers
    of a source share its part. Otherwise blocks of cells follow one another; the last block starts
    early where the number of cells is not a multiple, so some cells are computed twice, which is
    harmless because nothing is updated in place.

    Args:
        f: function of one cell.
        cells: arrays [source, hyper, ...].
        hyper: arrays [hyper].
        per_source: arrays [source, ...].
        cell_batch: cells in a block.
        into: arrays to overwrite with the result. A training loop hands in the buffers of the step
            before the last, which saves clearing and copying the state in every step.

    Returns:
        What f returns, with leading axes [source, hyper].
    """
    n_source, n_hyper = jax.tree.leaves(per_source)[0].shape[0], jax.tree.leaves(hyper)[0].shape[0]
    by_source, by_hyper = block_shape(cell_batch, n_source, n_hyper)

    def single(cells: Any, hyper: Any, per_source: Any) -> Any:
        """A block of one cell, without axes of size 1 for the compiler to carry along."""
        arguments = ((cells, 2), (hyper, 1), (per_source, 1))
        bare = [jax.tree.map(lambda a, n=n: a.reshape(a.shape[n:]), part) for part, n in arguments]
        return jax.tree.map(lambda a: a[None, None], f(bare[0], bare[1], bare[2]))

    several = jax.vmap(jax.vmap(f, in_axes=(0, 0, None)), in_axes=(0, None, 0))
    if (by_source, by_hyper) == (n_source, n_hyper):
        return several(cells, hyper, per_source)
    block = single if (by_source, by_hyper) == (1, 1) else several

    def cut(tree: Any, starts: tuple, sizes: tuple) -> Any:
        def one(a: Array) -> Array:
            rest = a.ndim - len(sizes)
            return jax.lax.dynamic_slice(
                a, (*starts, *(0,) * rest), (*sizes, *a.shape[len(sizes) :])
            )

        return jax.tree.map(one, tree)

    if into is None:
        out = jax.eval_shape(
            jax.vmap(jax.vmap(f, (0, 0, None)), (0, None, 0)), cells, hyper, per_source
        )
        into = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), out)

    def over_sources(i: Int[Array, ""], into: Any) -> Any:
        s = jnp.minimum(i * by_source, n_source - by_source)
        source_part = cut(per_source, (s,), (by_source,))

        def over_hypers(j: Int[Array, ""], into: Any) -> Any:
            h = jnp.minimum(j * by_hyper, n_hyper - by_hyper)
            new = block(
                cut(cells, (s, h), (by_source, by_hyper)),
                cut(hyper, (h,), (by_hyper,)),
                source_part,
            )
            put = jax.lax.dynamic_update_slice
            return jax.tree.map(lambda a, b: put(a, b, (s, h, *(0,) * (a.ndim - 2))), into, new)

        return jax.lax.fori_loop(0, -(-n_hyper // by_hyper), over_hypers, into)

    return jax.lax.fori_loop(0, -(-n_source // by_source), over_sources, into)
