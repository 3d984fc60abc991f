"""Latents and true features paired one to one, and how alike the pairs are."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from saejax.core.linalg import unit_rows_numpy


class Assignment(NamedTuple):
    """The best pairing of two sets of vectors: min(n_a, n_b) pairs, in the order of the first set.

    Attributes:
        a: row of the first set.
        b: row of the second.
        cosine: |cosine| of the two.
    """

    a: Int[np.ndarray, " pairs"]
    b: Int[np.ndarray, " pairs"]
    cosine: Float32[np.ndarray, " pairs"]


def assign(A: Float[np.ndarray, "n_a d_in"], B: Float[np.ndarray, "n_b d_in"]) -> Assignment:
    """The one-to-one pairing of rows with the largest sum of |cos(a, b)|.

    Every row of the smaller set has a partner. On one core, random vectors with d_in 768 take 0.3 s
    for 512 x 16384, 2 s for 4096 x 4096, 4 s for 4096 x 16384, and 54 s and 6 GB for 16384 x 16384:
    the cosines are held in float32 and several times in float64.

    A row of zeros has cosine 0 with everything. A ValueError where a set is empty, or has numbers
    that are not finite.
    """
    for name, rows in (("A", A), ("B", B)):
        if not len(rows):
            raise ValueError(f"{name}: got no rows, allowed: one or more")
        if not np.isfinite(rows).all():
            raise ValueError(f"{name}: got NaN or infinity, allowed: finite numbers")
    cosines = np.abs(unit_rows_numpy(A) @ unit_rows_numpy(B).T)
    from scipy.optimize import linear_sum_assignment  # half a second to import

    a, b = linear_sum_assignment(cosines, maximize=True)
    return Assignment(a, b, np.minimum(cosines[a, b], 1.0))


def mcc(A: Float[np.ndarray, "n_a d_in"], B: Float[np.ndarray, "n_b d_in"]) -> float:
    """Mean correlation coefficient, `mean over pairs (a, b) of |cos(a, b)|`, in [0, 1].

    The pairs are those of `assign`, so the divisor is the smaller number of rows: with fewer
    latents than true features it says how good the latents are, not how many features were found.
    Signs do not count, and latents that never fire count like all others. Symmetric in its
    arguments.

    Source: SynthSAEBench (Chanin and Garriga-Alonso, 2026, arXiv 2602.14687), with the measure of
    "Position: Mechanistic Interpretability Should Prioritize Feature Consistency in SAEs" (arXiv
    2505.20254).
    """
    return float(assign(A, B).cosine.mean(dtype=np.float64))
