"""Activations of a language model over a text, row by row in the order of the text."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int64, Integer

from saejax.checks import check_whole
from saejax.data.corpus import document_ids
from saejax.lm.model import GPT, activations, hook_width


class Rows(NamedTuple):
    """Successive rows of a harvest.

    Attributes:
        activations: at the hook point.
        token_ids: the token at each row's position.
        positions: its place in the window that the model saw, from 0.
        documents: the document it belongs to, from 0.
    """

    activations: Float[np.ndarray, "rows d"]
    token_ids: Int[np.ndarray, " rows"]
    positions: Int[np.ndarray, " rows"]
    documents: Int[np.ndarray, " rows"]


def harvest_rows(n_tokens: int, context: int) -> int:
    """Rows that a harvest of so many tokens has: all whole windows."""
    return n_tokens // context * context


def harvest(
    model: GPT,
    tokens: Integer[np.ndarray, " tokens"],
    documents: Int64[np.ndarray, " bounds"],
    hook: str,
    *,
    batch_size: int = 64,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Rows]:
    """The activations at a hook point for every token of a text, in its order.

    The text is cut into windows of `context` tokens that follow one another, an incomplete last one
    left out; row r is token r. Compiled once. A harvest that starts at row r gives bit for bit the rows
    from r on of one that starts at 0, because it runs the same batches of windows.

    Args:
        model: the weights.
        tokens: the text, such as `Corpus.train`; read in passing, never loaded whole.
        documents: where each document begins, such as `Corpus.train_documents`.
        hook: which activation, see `hook_names`.
        batch_size: windows that the model sees at once; a batch is context * batch_size rows.
        start: first row.
        stop: the row before which to stop; None for all.

    Returns:
        An iterator of batches of rows; the first and the last may be shorter than the others.

    Raises:
        ValueError: before anything is computed, naming the argument: an unknown hook, a text shorter
            than one window, a start or stop outside the text.
    """
    config = model.config
    hook_width(config, hook)
    batch_size = check_whole("batch_size", batch_size, "a whole number, 1 or more", lambda v: v >= 1)
    n_rows = harvest_rows(tokens.size, config.context)
    if not n_rows:
        raise ValueError(f"tokens: got {tokens.size}, allowed: context={config.context} or more")
    stop = check_whole(
        "stop", n_rows if stop is None else stop, f"None or 1 to {n_rows}", lambda v: 1 <= v <= n_rows
    )
    start = check_whole("start", start, f"0 to stop={stop}", lambda v: 0 <= v <= stop)
    return _harvest(model, tokens, documents, hook, batch_size, start, stop)


@partial(jax.jit, static_argnames="hook")
def _read(
    model: GPT, windows: Integer[Array, "batch context"], hook: str
) -> Float[Array, "batch context d"]:
    return activations(model, windows, (hook,))[hook]


def _harvest(
    model: GPT,
    tokens: Integer[np.ndarray, " tokens"],
    documents: Int64[np.ndarray, " bounds"],
    hook: str,
    batch_size: int,
    start: int,
    stop: int,
) -> Iterator[Rows]:
    context = model.config.context
    per_batch = batch_size * context
    windows = tokens[: harvest_rows(tokens.size, context)].reshape(-1, context)

    def dispatch(first: int) -> Array:
        part = windows[first // context : first // context + batch_size]
        # The last batch is filled up, so that all have the shape that was compiled.
        filled = np.zeros((batch_size, context), tokens.dtype)
        filled[: len(part)] = part
        return _read(model, jnp.asarray(filled), hook)

    firsts = range(start // per_batch * per_batch, stop, per_batch) if start < stop else range(0)
    running = dispatch(firsts[0]) if firsts else None
    for first in firsts:
        # The device works on the next batch while the caller stores this one.
        done, running = running, dispatch(first + per_batch) if first + per_batch < stop else None
        at = np.arange(max(first, start), min(first + per_batch, stop))
        x = np.asarray(done).reshape(per_batch, -1)[at[0] - first : at[-1] + 1 - first]
        token_ids, positions = tokens[at].astype(np.int32), (at % context).astype(np.int32)
        yield Rows(x, token_ids, positions, document_ids(documents, at))
