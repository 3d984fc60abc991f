"""Where the latents of an SAE are active in a text: sparse activations, and what they add up to."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int64
from scipy.sparse import csc_array, csr_array

from saejax.core.checks import check_whole
from saejax.data.store.reader import Store
from saejax.interpret.monosemanticity import selectivity
from saejax.sae.params import Params
from saejax.sae.relu import encode

# Rows encoded at once; dense activations of them, 4 bytes x rows x d_sae, are what takes memory.
ROWS = 2048
# A value and the number of its row for every firing: 2^28 of them are 2 GiB, and three times that
# while they are put in order.
MOST_FIRINGS = 2**28


def shape_of(h: csc_array) -> tuple[int, int]:
    """Rows and latents."""
    # SciPy's types allow a shape that is not known.
    assert h.shape is not None
    return h.shape[0], h.shape[1]


class Sequences(NamedTuple):
    """Whole sequences of a store.

    Attributes:
        rows: numbers of their rows in the store, sequence after sequence.
        bounds: the place at which each sequence begins, and behind the last their number.
    """

    rows: Int64[np.ndarray, " rows"]
    bounds: Int64[np.ndarray, " sequences_and_end"]


def sequences(store: Store, n_tokens: int) -> Sequences:
    """About so many tokens of a store: whole sequences, spread evenly over it.

    Neighbouring rows belong to one sequence as long as their positions go up by one.

    Args:
        store: with tokens and positions.
        n_tokens: as many sequences are taken as reach this number at their mean length; all where
            the store has fewer.

    Raises:
        ValueError: for a number below 1, and a store without tokens.
    """
    n_tokens = check_whole("sample_tokens", n_tokens, "a whole number, 1 or more", lambda v: v >= 1)
    positions = store.positions(np.arange(len(store)))
    starts = np.flatnonzero(np.diff(positions, prepend=positions[0]) != 1)
    ends = np.append(starts[1:], len(store))
    n = min(len(starts), -(-n_tokens * len(starts) // len(store)))
    chosen = np.unique(np.linspace(0, len(starts) - 1, n).round().astype(np.int64))
    pairs = zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
    rows = np.concatenate([np.arange(start, end) for start, end in pairs])
    lengths = (ends - starts)[chosen]
    return Sequences(rows, np.concatenate([[0], np.cumsum(lengths)]))


@jax.jit
def _encode(params: Params, x: Float[Array, "rows d_in"]) -> Float[Array, "rows d_sae"]:
    return encode(params, x)


def activity(params: Params, store: Store, rows: Int64[np.ndarray, " rows"]) -> csc_array:
    """Activations of every latent at every one of some rows, [rows, d_sae], zeros left out.

    Args:
        params: one SAE whose encoder sees `x - b_dec`, as those of a `Result` do.
        store: of the activations that it was trained on.
        rows: numbers of rows of the store.

    Raises:
        ValueError: where the SAE has another d_in than the store, and for more firings than memory
            should hold (`MOST_FIRINGS`), judged by the rows so far.
    """
    d_in, d_sae = params.W_enc.shape
    if d_in != store.d:
        raise ValueError(f"params: got an SAE of d_in={d_in}, allowed: the store's {store.d}")
    on_device = jax.tree.map(jnp.asarray, params)
    values, columns, counts, n = [], [], [], 0
    for first in range(0, len(rows), ROWS):
        part = rows[first : first + ROWS]
        x = np.zeros((ROWS, d_in), np.float32)
        x[: len(part)] = store.rows(part)
        h = np.asarray(_encode(on_device, jnp.asarray(x)))[: len(part)]
        at, latents = np.nonzero(h)
        values.append(h[at, latents])
        columns.append(latents.astype(np.int32))
        counts.append(np.bincount(at, minlength=len(part)))
        n += len(at)
        done = first + len(part)
        if n / done * len(rows) > MOST_FIRINGS:
            raise ValueError(
                f"sample_tokens: got {len(rows)}, at {n / done:.0f} active latents a token; "
                f"allowed: up to {int(MOST_FIRINGS * done / n)}, for memory's sake"
            )
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    by_row = csr_array(
        (np.concatenate(values), np.concatenate(columns), bounds), (len(rows), d_sae)
    )
    return by_row.tocsc()


class Statistics(NamedTuple):
    """What the activations of each latent add up to.

    Attributes:
        firings: tokens at which it is above 0.
        mean: over the firings; 0 where there are none.
        highest: largest activation.
        selectivity: `mean / ln(firings + 1)`, NaN without a firing.
    """

    firings: Int[np.ndarray, " d_sae"]
    mean: Float[np.ndarray, " d_sae"]
    highest: Float[np.ndarray, " d_sae"]
    selectivity: Float[np.ndarray, " d_sae"]


def statistics(h: csc_array) -> Statistics:
    """Sums over the rows of `activity`."""
    firings = np.diff(h.indptr).astype(np.int64)
    total = np.asarray(h.sum(axis=0, dtype=np.float64)).ravel()
    mean = total / np.maximum(firings, 1)
    highest = np.asarray(h.max(axis=0).todense()).ravel()
    return Statistics(firings, mean, highest, selectivity(mean, firings))


def _of(h: csc_array, latent: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows at which a latent is active, rising, and its activations there."""
    part = slice(h.indptr[latent], h.indptr[latent + 1])
    return h.indices[part], h.data[part]


def strongest(
    h: csc_array, bounds: Int64[np.ndarray, " bounds"], latent: int, n: int
) -> Int64[np.ndarray, " found"]:
    """Rows at which a latent is most active, the strongest first, no two of one sequence.

    Args:
        h: of `activity`.
        bounds: of the sequences.
        latent: its number.
        n: rows, at most.
    """
    rows, values = _of(h, latent)
    order = np.argsort(-values, kind="stable")
    rows = rows[order].astype(np.int64)
    _, first = np.unique(np.searchsorted(bounds, rows, side="right"), return_index=True)
    return rows[np.sort(first)[:n]]


def drawn(
    h: csc_array, latent: int, intervals: int, n: int, seed: int = 0
) -> list[Int64[np.ndarray, " found"]]:
    """Rows drawn at random from a latent's firings, by activation.

    Args:
        h: of `activity`.
        latent: its number.
        intervals: equal intervals from 0 to its highest activation, the lowest first; 1 is all
            firings.
        n: rows of each interval, at most.
        seed: of the draws, which depend on nothing else but the latent's firings.

    Returns:
        For every interval the rows, in the order of the draw.
    """
    rows, values = _of(h, latent)
    if not len(rows):
        return [np.zeros(0, np.int64)] * intervals
    which = np.minimum((values / values.max() * intervals).astype(int), intervals - 1)
    rng = np.random.default_rng([seed, latent, intervals])
    order = rng.permutation(len(rows))
    return [rows[order[which[order] == i][:n]].astype(np.int64) for i in range(intervals)]


def around(
    h: csc_array,
    bounds: Int64[np.ndarray, " bounds"],
    latent: int,
    rows: Int[np.ndarray, " slots"],
    before: int,
    after: int,
) -> Float[np.ndarray, "slots width"]:
    """A latent's activations at the tokens around some rows; 0 outside of a row's sequence.

    Args:
        h: of `activity`.
        bounds: of the sequences.
        latent: its number.
        rows: in the middle; -1 gives zeros.
        before: tokens before each of them.
        after: tokens behind it.
    """
    own, values = _of(h, latent)
    n_rows = shape_of(h)[0]
    dense = np.zeros(n_rows, h.dtype)
    dense[own] = values
    at = rows[:, None] + np.arange(-before, after + 1)
    sequence = np.searchsorted(bounds, rows, side="right")
    low, high = bounds[np.maximum(sequence - 1, 0)], bounds[np.minimum(sequence, len(bounds) - 1)]
    inside = (at >= low[:, None]) & (at < high[:, None]) & (rows >= 0)[:, None]
    return np.where(inside, dense[np.clip(at, 0, n_rows - 1)], 0)


@partial(jax.jit, donate_argnums=0)
def _add_products(
    total: Float[Array, "d_sae d_sae"], h: Float[Array, "rows d_sae"]
) -> Float[Array, "d_sae d_sae"]:
    return total + jnp.matmul(h.T, h, precision="highest")


def correlations(h: csc_array, latents: Int[np.ndarray, " n"] | None = None) -> Float[Array, "n n"]:
    """Pearson's correlation of the activations of every two latents over all rows.

    A latent that never fires, or always alike, has correlation 0 with all others.

    Args:
        h: of `activity`.
        latents: which ones; None for all, 4 bytes x d_sae^2 on the device.
    """
    chosen = h if latents is None else h[:, latents]
    by_row, (n_rows, n) = chosen.tocsr(), shape_of(chosen)
    mean = (np.asarray(chosen.sum(axis=0, dtype=np.float64)).ravel() / n_rows).astype(np.float32)
    total = jnp.zeros((n, n))
    for first in range(0, n_rows, ROWS):
        block = np.zeros((ROWS, n), np.float32)
        part = by_row[first : first + ROWS].toarray()
        # Less the mean before it is squared: of a latent that is always active and varies little,
        # float32 would leave no variance after.
        block[: len(part)] = part - mean
        total = _add_products(total, jnp.asarray(block))
    return _normalised(total, jnp.asarray(mean), n_rows)


@partial(jax.jit, static_argnames="n", donate_argnums=0)
def _normalised(
    total: Float[Array, "d_sae d_sae"], mean: Float[Array, " d_sae"], n: int
) -> Float[Array, "d_sae d_sae"]:
    covariance = total / n
    variance = jnp.diagonal(covariance)
    # What the rounding of float32 leaves of a variance that is 0.
    varies = variance > 1e-10 * mean**2
    scale = jnp.where(varies, 1 / jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0)
    return jnp.clip(covariance * scale[:, None] * scale, -1.0, 1.0)
