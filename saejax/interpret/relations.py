"""Which latents are close to each other: by decoder row or activation, in one SAE or two."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from saejax.analysis.mcs.dictionaries import BLOCK
from saejax.core.linalg import unit_rows_numpy
from saejax.interpret.dashboard import Elsewhere, Related


def _largest(
    blocks: Iterable[Float[np.ndarray, "n m"]], width: int, k: int, itself: bool = False
) -> Related:
    """The k largest of every row of a matrix, given block by block; minus infinity is none.

    Without `itself`, the diagonal is left out.
    """
    columns, parts, first = min(k, width), [], 0
    for block in blocks:
        if not itself:
            rows = np.arange(len(block))
            block[rows, first + rows] = -np.inf
            first += len(block)
        some = np.argpartition(-block, columns - 1, axis=1)[:, :columns]
        order = np.argsort(-np.take_along_axis(block, some, axis=1), axis=1, kind="stable")
        latents = np.take_along_axis(some, order, axis=1)
        parts.append((latents, np.take_along_axis(block, latents, axis=1)))
    latents, values = map(np.concatenate, zip(*parts, strict=True))
    missing = ((0, 0), (0, k - columns))
    latents = np.pad(np.where(np.isfinite(values), latents, -1), missing, constant_values=-1)
    values = np.where(latents < 0, 0.0, np.pad(values, missing))
    return Related(latents.astype(np.int32), values.astype(np.float32))


def most_correlated(correlation: Float[np.ndarray, "d_sae d_sae"], k: int) -> Related:
    """The k latents with which each latent's activations correlate most, itself left out.

    Those without a positive correlation are left out too.
    """
    parts = (correlation[i : i + BLOCK] for i in range(0, len(correlation), BLOCK))
    return _largest((np.where(part > 0, part, -np.inf) for part in parts), len(correlation), k)


def neighbours(W_dec: Float[np.ndarray, "d_sae d_in"], k: int) -> Related:
    """The k latents of the same SAE with the closest decoder rows, by cosine, itself left out."""
    unit = unit_rows_numpy(W_dec)
    parts = (unit[i : i + BLOCK] @ unit.T for i in range(0, len(unit), BLOCK))
    # Rounding can put a cosine just above 1.
    return _largest((np.clip(part, -1.0, 1.0) for part in parts), len(unit), k)


def elsewhere(
    W_dec: Float[np.ndarray, "d_sae d_in"], name: str, other: Float[np.ndarray, "others d_in"]
) -> Elsewhere:
    """The closest decoder row of another SAE, of that name, to each latent; their cosine is MCS."""
    unit, others = unit_rows_numpy(W_dec), unit_rows_numpy(other)
    cosines = (unit[i : i + BLOCK] @ others.T for i in range(0, len(unit), BLOCK))
    latents, mcs = _largest(cosines, len(others), 1, itself=True)
    return Elsewhere(name, latents[:, 0], np.clip(mcs[:, 0], -1.0, 1.0))
