"""Which latents are close to which: by decoder rows, in one SAE or between two, and by
activation."""

import numpy as np
from jaxtyping import Float

from saejax.analysis.mcs.dictionaries import BLOCK
from saejax.core.linalg import unit_rows_numpy
from saejax.interpret.dashboard import Elsewhere, Related


def _largest(values: Float[np.ndarray, "n m"], k: int) -> Related:
    """The k largest of every row, the largest first."""
    k = min(k, values.shape[1])
    at = np.argpartition(-values, k - 1, axis=1)[:, :k]
    own = np.take_along_axis(values, at, axis=1)
    order = np.argsort(-own, axis=1, kind="stable")
    at, own = (np.take_along_axis(a, order, axis=1) for a in (at, own))
    return Related(np.where(np.isfinite(own), at, -1).astype(np.int32), own.astype(np.float32))


def _stacked(parts: list[Related], width: int, k: int) -> Related:
    latents, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    missing = ((0, 0), (0, max(0, k - width)))
    latents = np.pad(latents, missing, constant_values=-1)
    values = np.where(latents < 0, 0.0, np.pad(values, missing))
    return Related(latents, values.astype(np.float32))


def most_correlated(correlation: Float[np.ndarray, "d_sae d_sae"], k: int) -> Related:
    """The latents with which each latent's activations correlate most, itself left out.

    Args:
        correlation: of `saejax.interpret.activity.correlations`.
        k: how many; those without a positive correlation are left out.
    """
    parts = []
    for first in range(0, len(correlation), BLOCK):
        part = np.array(correlation[first : first + BLOCK])
        part[np.arange(len(part)), first + np.arange(len(part))] = -np.inf
        parts.append(_largest(np.where(part > 0, part, -np.inf), k))
    return _stacked(parts, len(correlation), k)


def neighbours(W_dec: Float[np.ndarray, "d_sae d_in"], k: int) -> Related:
    """The latents of the same SAE with the closest decoder rows, by cosine, itself left out."""
    unit, parts = unit_rows_numpy(W_dec), []
    for first in range(0, len(unit), BLOCK):
        # Rounding can put a cosine just above 1.
        part = np.clip(unit[first : first + BLOCK] @ unit.T, -1.0, 1.0)
        part[np.arange(len(part)), first + np.arange(len(part))] = -np.inf
        parts.append(_largest(part, k))
    return _stacked(parts, len(unit), k)


def elsewhere(
    W_dec: Float[np.ndarray, "d_sae d_in"], name: str, other: Float[np.ndarray, "others d_in"]
) -> Elsewhere:
    """The closest decoder row of another SAE to each latent; their cosine is the MCS.

    Args:
        W_dec: of the latents.
        name: of the other SAE.
        other: its decoder rows.
    """
    unit, theirs = unit_rows_numpy(W_dec), unit_rows_numpy(other)
    parts = [_largest(unit[i : i + BLOCK] @ theirs.T, 1) for i in range(0, len(unit), BLOCK)]
    latents, values = (np.concatenate(column)[:, 0] for column in zip(*parts, strict=True))
    return Elsewhere(name, latents, np.clip(values, -1.0, 1.0))
