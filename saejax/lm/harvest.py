"""Activations of a language model over a text, row by row in the order of the text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int64, Integer

from saejax.core.checks import check_switch, check_whole
from saejax.lm.corpus import document_ids
from saejax.lm.model import GPT, activations, hook_width

Places = Int64[np.ndarray, " rows"]


@dataclass(frozen=True)
class Packing:
    """How a text is cut into the windows that a model sees, and which of their positions are kept.

    Documents follow one another, each closed by its end-of-text token, and windows take successive
    tokens whatever document they are of; an incomplete last window is left out. With `bos` each
    window begins with that token, ahead of context - 1 tokens of the text.

    For GPT-2 the peers (SAELens, TransformerLens) let every window begin with `<|endoftext|>`,
    which is its `bos`, and keep the activation there unless told otherwise (`seqpos_slice`,
    `exclude_special_tokens`). In GPT-2's middle layers the stream at the first position, whatever
    token is there, is many times as long as at any other and outweighs all other rows of a window
    in a squared error and in the mean. `drop_first` leaves it out.

    Args:
        context: tokens in a window, the first one included.
        bos: id of a token that begins every window; None for none.
        drop_first: whether the first position of every window is left out of the rows.

    Sources: SAELens (Bloom et al.), `concat_and_batch_sequences`; TransformerLens (Nanda et al.),
    `tokenize_and_concatenate`; "Massive activations in large language models" (Sun et al., 2024) on
    the first position.
    """

    context: int
    bos: int | None = None
    drop_first: bool = False

    def __post_init__(self) -> None:
        dropped = check_switch("drop_first", self.drop_first)
        object.__setattr__(self, "drop_first", dropped)
        if self.bos is not None:
            allowed = "None, or the id of a token: a whole number, 0 or more"
            object.__setattr__(self, "bos", check_whole("bos", self.bos, allowed, lambda v: v >= 0))
        least = 2 if dropped or self.bos is not None else 1
        allowed = f"a whole number, {least} or more"
        context = check_whole("context", self.context, allowed, lambda v: v >= least)
        object.__setattr__(self, "context", context)

    @property
    def stride(self) -> int:
        """Tokens of the text in a window."""
        return self.context - (self.bos is not None)

    @property
    def kept(self) -> int:
        """Rows of a window."""
        return self.context - self.drop_first

    def rows(self, n_tokens: int) -> int:
        """Rows of a text of so many tokens: those of all whole windows."""
        return n_tokens // self.stride * self.kept

    def windows(
        self, tokens: Integer[np.ndarray, " tokens"], first: int, last: int
    ) -> Integer[np.ndarray, "windows context"]:
        """The windows from number `first` to before `last`, as the model sees them."""
        text = tokens[first * self.stride : last * self.stride].reshape(-1, self.stride)
        # The text's own dtype, a 16-bit one for GPT-2, might not hold the token in front.
        return text if self.bos is None else np.insert(text.astype(np.int32), 0, self.bos, axis=1)

    def at(self, rows: Integer[np.ndarray, " rows"]) -> tuple[Places, Places]:
        """The position of rows in their window, from 0, and their place in the text.

        For a `bos` that is the place of the token behind it.
        """
        window, row = np.divmod(np.asarray(rows, np.int64), self.kept)
        position = row + self.drop_first
        return position, window * self.stride + np.maximum(position - (self.bos is not None), 0)


class Rows(NamedTuple):
    """Successive rows of a harvest."""

    activations: Float[np.ndarray, "rows d"]  # at the hook point
    token_ids: Int[np.ndarray, " rows"]  # the token at each row's position
    positions: Int[np.ndarray, " rows"]  # its place in the window that the model saw, from 0
    documents: Int[np.ndarray, " rows"]  # the document it belongs to, from 0


def harvest(
    model: GPT,
    tokens: Integer[np.ndarray, " tokens"],
    documents: Int64[np.ndarray, " bounds"],
    hook: str,
    *,
    packing: Packing | None = None,
    batch_size: int = 64,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Rows]:
    """The activations at a hook point for the tokens of a text, in its order.

    The text is cut into windows that follow one another, see `Packing`. Which token row r is, at
    which position, depends on r and the packing alone: without one, row r is token r. Compiled
    once. A harvest that starts at row r gives bit for bit the rows from r on of one that starts at
    0, because it runs the same batches of windows.

    Args:
        model: the weights.
        tokens: the text, such as `Corpus.train`; read in passing, never loaded whole.
        documents: where each document begins, such as `Corpus.train_documents`.
        hook: which activation, see `hook_names`.
        packing: how the text is cut; None for windows of the model's context and all positions.
        batch_size: windows that the model sees at once.
        start: first row.
        stop: the row before which to stop; None for all.

    Returns:
        Batches of rows; the first and the last may be shorter than the others.

    Raises:
        ValueError: before anything is computed, naming the argument: an unknown hook, a packing
            that the model does not fit, a text shorter than one window, a range outside the text.
    """
    config = model.config
    hook_width(config, hook)
    packing = Packing(config.context) if packing is None else packing
    if packing.context > config.context:
        raise ValueError(
            f"packing.context: got {packing.context}, allowed: up to the model's {config.context}"
        )
    if packing.bos is not None and packing.bos >= config.vocab_size:
        allowed = f"below the model's vocab_size={config.vocab_size}"
        raise ValueError(f"packing.bos: got {packing.bos}, allowed: {allowed}")
    allowed = "a whole number, 1 or more"
    batch_size = check_whole("batch_size", batch_size, allowed, lambda v: v >= 1)
    n_rows = packing.rows(tokens.size)
    if not n_rows:
        window = "context" if packing.bos is None else "context - 1"
        raise ValueError(f"tokens: got {tokens.size}, allowed: {window}={packing.stride} or more")
    stop = n_rows if stop is None else stop
    stop = check_whole("stop", stop, f"None or 1 to {n_rows}", lambda v: 1 <= v <= n_rows)
    start = check_whole("start", start, f"0 to stop={stop}", lambda v: 0 <= v <= stop)
    per_batch, n_windows = batch_size * packing.kept, tokens.size // packing.stride

    def dispatch(first: int) -> Array:
        window = first // packing.kept
        part = packing.windows(tokens, window, min(window + batch_size, n_windows))
        # The last batch is filled up, so that all have the shape that was compiled.
        filled = np.zeros((batch_size, packing.context), np.int32)
        filled[: len(part)] = part
        return _read(model, jnp.asarray(filled), hook)

    def batches() -> Iterator[Rows]:
        firsts = range(start // per_batch * per_batch, stop, per_batch) if start < stop else ()
        running = dispatch(firsts[0]) if firsts else None
        for first in firsts:
            # The device works on the next batch while the caller stores this one.
            after = first + per_batch
            done, running = running, dispatch(after) if after < stop else None
            rows = np.arange(max(first, start), min(after, stop))
            x = np.asarray(done)[:, int(packing.drop_first) :].reshape(per_batch, -1)
            positions, places = packing.at(rows)
            token_ids = tokens[places].astype(np.int32)
            if packing.bos is not None:
                token_ids[positions == 0] = packing.bos
            here = slice(rows[0] - first, rows[-1] + 1 - first)
            its_documents = document_ids(documents, places)
            yield Rows(x[here], token_ids, positions.astype(np.int32), its_documents)

    return batches()


@partial(jax.jit, static_argnames="hook")
def _read(
    model: GPT, windows: Integer[Array, "batch context"], hook: str
) -> Float[Array, "batch context d"]:
    return activations(model, windows, (hook,))[hook]
