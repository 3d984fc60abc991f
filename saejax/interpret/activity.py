"""Where the latents of an SAE are active in a text: sparse activations, and their statistics."""

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

# Rows encoded at once: their dense activations take 4 bytes x rows x d_sae.
ROWS = 2048
# Each activation above 0 is kept as a value and a row number: 2^28 of them are 2 GiB, and three
# times that while they are sorted by latent.
MOST_FIRINGS = 2**28

_encode = jax.jit(encode)


def shape_of(h: csc_array) -> tuple[int, int]:
    """Rows and latents."""
    # By SciPy's types the shape of an array may be unknown.
    assert h.shape is not None
    return h.shape[0], h.shape[1]


def sequences(
    store: Store, n_tokens: int
) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " sequences_and_end"]]:
    """Whole sequences spread evenly over a store, about n_tokens long together.

    Neighbouring rows belong to one sequence as long as their positions go up by one. As many
    sequences are taken as have n_tokens at their mean length, all where the store has fewer.

    Returns:
        Row numbers in the store, and the place among them at which each sequence begins, followed
        by their number.

    Raises:
        ValueError: for a number below 1, and a store without tokens.
    """
    n_tokens = check_whole("sample_tokens", n_tokens, "a whole number, 1 or more", lambda v: v >= 1)
    positions = store.positions(np.arange(len(store)))
    starts = np.flatnonzero(np.diff(positions, prepend=positions[0]) != 1)
    ends = np.append(starts[1:], len(store))
    n = min(len(starts), -(-n_tokens * len(starts) // len(store)))
    chosen = np.unique(np.linspace(0, len(starts) - 1, n).round().astype(np.int64))
    starts, ends = starts[chosen], ends[chosen]
    rows = np.concatenate([np.arange(*pair) for pair in zip(starts, ends, strict=True)])
    return rows, np.concatenate([[0], np.cumsum(ends - starts)])


def activity(params: Params, store: Store, rows: Int64[np.ndarray, " rows"]) -> csc_array:
    """Sparse activations [rows, d_sae] of every latent at some rows of a store.

    The encoder of the SAE sees `x - b_dec`, as those of a `Result` do, and it was trained on the
    activations of the store.

    Raises:
        ValueError: where the SAE has another d_in than the store, and where the rows so far let
            expect more than `MOST_FIRINGS` activations above 0.
    """
    d_in, d_sae = params.W_enc.shape
    if d_in != store.d:
        raise ValueError(f"params: got an SAE of d_in={d_in}, allowed: the store's {store.d}")
    on_device = jax.tree.map(jnp.asarray, params)
    values, latents, counts, n_firings = [], [], [], 0
    for first in range(0, len(rows), ROWS):
        block = rows[first : first + ROWS]
        x = np.zeros((ROWS, d_in), np.float32)
        x[: len(block)] = store.rows(block)
        h = np.asarray(_encode(on_device, jnp.asarray(x)))[: len(block)]
        active = np.nonzero(h)
        values.append(h[active])
        latents.append(active[1].astype(np.int32))
        counts.append(np.bincount(active[0], minlength=len(block)))
        n_firings += len(active[0])
        done = first + len(block)
        if n_firings / done * len(rows) > MOST_FIRINGS:
            raise ValueError(
                f"sample_tokens: got {len(rows)}, at {n_firings / done:.0f} active latents a "
                f"token; allowed: up to {int(MOST_FIRINGS * done / n_firings)}, for memory's sake"
            )
    row_ends = np.cumsum(np.concatenate(counts))
    by_row = np.concatenate(values), np.concatenate(latents), np.concatenate([[0], row_ends])
    return csr_array(by_row, (len(rows), d_sae)).tocsc()


class Statistics(NamedTuple):
    """Statistics of each latent over a sample of text.

    Attributes:
        firings: number of tokens at which it is above 0.
        mean: over these tokens; 0 where there are none.
        highest: largest activation.
        selectivity: `mean / ln(firings + 1)`, NaN without a firing.
    """

    firings: Int[np.ndarray, " d_sae"]
    mean: Float[np.ndarray, " d_sae"]
    highest: Float[np.ndarray, " d_sae"]
    selectivity: Float[np.ndarray, " d_sae"]


def statistics(h: csc_array) -> Statistics:
    """Statistics of the activations that `activity` returns."""
    firings = np.diff(h.indptr).astype(np.int64)
    total = np.asarray(h.sum(axis=0, dtype=np.float64)).ravel()
    mean = total / np.maximum(firings, 1)
    highest = np.asarray(h.max(axis=0).todense()).ravel()
    return Statistics(firings, mean, highest, selectivity(mean, firings))


def _firings(h: csc_array, latent: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows at which a latent is active, rising, and its activations there."""
    column = slice(h.indptr[latent], h.indptr[latent + 1])
    return h.indices[column], h.data[column]


def strongest(
    h: csc_array, bounds: Int64[np.ndarray, " bounds"], latent: int, n: int
) -> Int64[np.ndarray, " found"]:
    """Up to n rows at which a latent is most active, strongest first, no two of one sequence."""
    rows, values = _firings(h, latent)
    rows = rows[np.argsort(-values, kind="stable")].astype(np.int64)
    _, first = np.unique(np.searchsorted(bounds, rows, side="right"), return_index=True)
    return rows[np.sort(first)[:n]]


def drawn(
    h: csc_array, latent: int, intervals: int, n: int, seed: int = 0
) -> list[Int64[np.ndarray, " found"]]:
    """Rows drawn at random from each interval of a latent's activations.

    The intervals are equal, from 0 to its highest activation, and the lowest comes first; up to n
    rows are drawn of each. The draws depend on the seed and on the latent's firings alone.
    """
    rows, values = _firings(h, latent)
    if not len(rows):
        return [np.zeros(0, np.int64)] * intervals
    interval = np.minimum((values / values.max() * intervals).astype(int), intervals - 1)
    order = np.random.default_rng([seed, latent, intervals]).permutation(len(rows))
    return [rows[order[interval[order] == i][:n]].astype(np.int64) for i in range(intervals)]


def around(
    h: csc_array,
    bounds: Int64[np.ndarray, " bounds"],
    latent: int,
    rows: Int[np.ndarray, " slots"],
    before: int,
    after: int,
) -> Float[np.ndarray, "slots width"]:
    """A latent's activations at each row, so many tokens before it and so many behind it.

    They are 0 outside of the row's sequence, and all 0 for the row -1.
    """
    active, values = _firings(h, latent)
    n_rows = shape_of(h)[0]
    dense = np.zeros(n_rows, h.dtype)
    dense[active] = values
    window = rows[:, None] + np.arange(-before, after + 1)
    sequence = np.searchsorted(bounds, rows, side="right")
    low, high = bounds[np.maximum(sequence - 1, 0)], bounds[np.minimum(sequence, len(bounds) - 1)]
    inside = (window >= low[:, None]) & (window < high[:, None]) & (rows >= 0)[:, None]
    return np.where(inside, dense[np.clip(window, 0, n_rows - 1)], 0)


def correlations(h: csc_array, latents: Int[np.ndarray, " n"] | None = None) -> Float[Array, "n n"]:
    """Pearson's correlation of the activations of every two latents over all rows.

    A latent whose activation never changes has correlation 0 with all others. Those of all latents
    (None) take 4 bytes x d_sae^2 on the device.
    """
    chosen = h if latents is None else h[:, latents]
    by_row, (n_rows, n) = chosen.tocsr(), shape_of(chosen)
    mean = (np.asarray(chosen.sum(axis=0, dtype=np.float64)).ravel() / n_rows).astype(np.float32)
    products = jnp.zeros((n, n))
    for first in range(0, n_rows, ROWS):
        centred = np.zeros((ROWS, n), np.float32)
        block = by_row[first : first + ROWS].toarray()
        # The mean is subtracted before squaring: afterwards, float32 would leave no variance of a
        # latent that is always active and varies little.
        centred[: len(block)] = block - mean
        products = _add_products(products, jnp.asarray(centred))
    return _normalised(products, jnp.asarray(mean), n_rows)


@partial(jax.jit, donate_argnums=0)
def _add_products(
    products: Float[Array, "d_sae d_sae"], h: Float[Array, "rows d_sae"]
) -> Float[Array, "d_sae d_sae"]:
    return products + jnp.matmul(h.T, h, precision="highest")


@partial(jax.jit, static_argnames="n", donate_argnums=0)
def _normalised(
    products: Float[Array, "d_sae d_sae"], mean: Float[Array, " d_sae"], n: int
) -> Float[Array, "d_sae d_sae"]:
    covariance = products / n
    variance = jnp.diagonal(covariance)
    # Where the true variance is 0, float32 leaves a little by rounding.
    varies = variance > 1e-10 * mean**2
    scale = jnp.where(varies, 1 / jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0)
    return jnp.clip(covariance * scale[:, None] * scale, -1.0, 1.0)
