"""MCS between dictionaries, in blocks: of all dictionaries of a run, and of random ones."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from saejax.checks import check_whole
from saejax.metrics import best_match

# Rows whose cosines are held at once: 1024 x 8192 are 32 MiB, all of 8192 x 8192 would be 256 MiB.
BLOCK = 1024


def mcs(G: Float[Array, "n_g d_in"], D: Float[Array, "n_d d_in"]) -> Float[Array, " n_g"]:
    """MCS of every row of G against D, `max over rows d of D of cos(g, d)`, in [-1, 1].

    The cosines are those of `saejax.metrics.best_match`, and `saejax.metrics.mmcs` is the mean up to
    rounding. Rows of G are taken in blocks of `BLOCK`, so that memory is that of one block's cosines.
    A row of zeros has MCS 0. Rounding can put a cosine just above 1; it is cut there.

    Source: "[Research Update] Sparse Autoencoder features are bimodal".
    """
    best = jax.lax.map(lambda g: best_match(g[None], D)[1][0], G, batch_size=BLOCK)
    return jnp.clip(best, -1.0, 1.0)


class RunMCS(NamedTuple):
    """MCS between the dictionaries of one run.

    Attributes:
        to_larger: for every two sizes (d_sae, larger d_sae), MCS of every latent of the smaller
            dictionary against the larger one of the same seed.
        to_other_seeds: for every size, MCS of every latent against the dictionaries of that size and
            the other seeds, these in their order without the latent's own.
    """

    to_larger: dict[tuple[int, int], Float32[np.ndarray, "seeds d_sae"]]
    to_other_seeds: dict[int, Float32[np.ndarray, "seeds others d_sae"]]


@jax.jit
def _same_seed(G: Any, D: Any) -> Any:
    return jax.lax.map(lambda pair: mcs(*pair), (G, D))


@jax.jit
def _other_seeds(D: Any) -> Any:
    n = len(D)
    own, other = np.nonzero(~np.eye(n, dtype=bool))
    found = jax.lax.map(lambda pair: mcs(D[pair[0]], D[pair[1]]), (jnp.array(own), jnp.array(other)))
    return found.reshape(n, n - 1, -1)


def mcs_of_run(dictionaries: Sequence[Float[Any, "seeds _ d_in"]]) -> RunMCS:
    """MCS of every dictionary against every larger one of its seed, and against the other seeds.

    One product of S seeds and sizes n, m takes 2 S n m d_in operations. Six sizes from 256 to 8192 with
    d_in 128 took 0.2 s with one seed and 0.8 s with two on 2 cores that others shared, and 1.6 and 4.8
    s the first time, which compiles.

    Args:
        dictionaries: decoder rows of every size, the sizes rising; rows need not have norm 1.

    Returns:
        Arrays on the host. With one seed `to_other_seeds` has arrays without entries.

    Raises:
        ValueError: for no dictionary, sizes that do not rise, shapes that do not fit together, and
            entries that are not finite.
    """
    if not dictionaries:
        raise ValueError("dictionaries: got none, allowed: one or more")
    arrays = [np.asarray(D, np.float32) for D in dictionaries]
    shapes = [D.shape for D in arrays]
    if any(len(s) != 3 or 0 in s for s in shapes) or len({(s[0], s[-1]) for s in shapes}) > 1:
        raise ValueError(
            f"dictionaries: got shapes {shapes}, allowed: [seeds, d_sae, d_in] with the same seeds and "
            "d_in in each, and none of them 0"
        )
    sizes = [s[1] for s in shapes]
    if any(a >= b for a, b in pairwise(sizes)):
        raise ValueError(f"dictionaries: got sizes {sizes}, allowed: rising ones")
    for d_sae, D in zip(sizes, arrays, strict=True):
        for seed, bad in enumerate(np.sum(~np.isfinite(D), axis=(1, 2))):
            if bad:
                raise ValueError(
                    f"dictionaries: got {bad} entries that are not finite at d_sae {d_sae}, seed "
                    f"number {seed}, allowed: none"
                )
    to_larger = {}
    for j in range(1, len(arrays)):
        # All smaller ones in one product: each shape is a compilation.
        smaller = np.asarray(_same_seed(np.concatenate(arrays[:j], axis=1), arrays[j]))
        parts = np.split(smaller, np.cumsum(sizes[: j - 1]), axis=1)
        to_larger |= {(d_sae, sizes[j]): x for d_sae, x in zip(sizes, parts, strict=False)}
    if len(arrays[0]) == 1:
        others = {d_sae: np.zeros((1, 0, d_sae), np.float32) for d_sae in sizes}
    else:
        others = {D.shape[1]: np.asarray(_other_seeds(D)) for D in arrays}
    return RunMCS(to_larger, others)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _random_mcs(key: PRNGKeyArray, n: int, M: int, K: int) -> Any:
    rows, dictionary = jax.random.split(key)
    return mcs(jax.random.normal(rows, (n, K)), jax.random.normal(dictionary, (M, K)))


def random_mcs(key: PRNGKeyArray, n: int, M: int, K: int) -> Float32[np.ndarray, " n"]:
    """MCS of n random vectors against a random dictionary of M rows, all in K dimensions.

    Every entry is standard normal, as in the text. Unit rows, uniform on the sphere, would give the
    same: a cosine does not see lengths, and directions of normal vectors are uniform.

    Args:
        key: of both dictionaries.
        n: number of vectors.
        M: rows of the dictionary.
        K: dimensions, d_in of the dictionaries it stands for.

    Raises:
        ValueError: for a size below 1.
    """
    for name, size in (("n", n), ("M", M), ("K", K)):
        check_whole(name, size, "1 or more", lambda v: v >= 1)
    return np.asarray(_random_mcs(key, int(n), int(M), int(K)))
