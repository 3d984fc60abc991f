"""Unit rows and cosines."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from saejax.core.precision import matmul


def unit_rows(rows: Float[Array, "*batch n d"]) -> Float[Array, "*batch n d"]:
    """Rows divided by their Euclidean norm.

    A zero row stays zero instead of becoming NaN, and one below 1e-19, whose square float32 cannot
    hold, stays shorter than 1.
    """
    squares = jnp.sum(rows**2, axis=-1, keepdims=True)
    return rows / jnp.sqrt(jnp.maximum(squares, jnp.finfo(rows.dtype).tiny))


def cosines(G: Float[Array, "n_g d_in"], D: Float[Array, "n_d d_in"]) -> Float[Array, "n_g n_d"]:
    """Cosine of every row of G with every row of D; a zero row has cosine 0 with everything."""
    return matmul(unit_rows(G), unit_rows(D).T)


def unit_rows_numpy(rows: np.ndarray) -> Float32[np.ndarray, "n d"]:
    """Rows divided by their Euclidean norm, by NumPy; a zero row stays zero.

    For dictionaries of many sizes, each of which would be a JAX program of its own to compile.
    """
    rows = np.asarray(rows, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
