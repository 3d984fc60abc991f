"""MCS between dictionaries, in blocks: of all dictionaries of a run, and of random ones."""

from collections.abc import Sequence
from itertools import combinations, pairwise, permutations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, PRNGKeyArray

from saejax.core.checks import check_whole
from saejax.core.linalg import unit_rows_numpy
from saejax.core.stats import generator

# Rows whose cosines are held at once: 1024 x 8192 are 32 MiB, all of 8192 x 8192 would be 256 MiB.
BLOCK = 1024


def mcs(
    G: Float[np.ndarray, "n_g d_in"], D: Float[np.ndarray, "n_d d_in"]
) -> Float32[np.ndarray, " n_g"]:
    """MCS of every row of G against D, `max over rows d of D of cos(g, d)`, in [-1, 1].

    The cosines are those of `saejax.core.linalg.cosines`, and
    `saejax.metrics.measures.mmcs` is the mean, up to rounding. Rows of G are taken in blocks, so
    that memory is that of one block's cosines. A row of zeros has MCS 0. Rounding can put a cosine
    just above 1; it is cut there. Computed by NumPy, because JAX would compile a program for every
    pair of sizes.

    Source: "[Research Update] Sparse Autoencoder features are bimodal".
    """
    G, D = unit_rows_numpy(G), unit_rows_numpy(D)
    best = [(G[i : i + BLOCK] @ D.T).max(1) for i in range(0, len(G), BLOCK)]
    return np.clip(np.concatenate(best), -1.0, 1.0)


class RunMCS(NamedTuple):
    """MCS between the dictionaries of one run.

    Attributes:
        to_larger: for every two sizes (d_sae, larger d_sae), MCS of every latent of the smaller
            dictionary against the larger one of the same seed.
        to_other_seeds: for every size, MCS of every latent against the dictionaries of that size
            and the other seeds, these in their order without the latent's own.
    """

    to_larger: dict[tuple[int, int], Float32[np.ndarray, "seeds d_sae"]]
    to_other_seeds: dict[int, Float32[np.ndarray, "seeds others d_sae"]]


def mcs_of_run(dictionaries: Sequence[Float[Any, "seeds _ d_in"]]) -> RunMCS:
    """MCS of every dictionary against every larger one of its seed, and against the other seeds.

    One product of S seeds and sizes n, m takes 2 S n m d_in operations: for six sizes from 256
    to 8192 and d_in 128, 0.3 s with one seed and 1.7 s with three on 2 cores.

    Args:
        dictionaries: finite decoder rows of every size, the sizes rising; rows need not have norm
            1, and seeds and d_in are the same in all.

    Returns:
        Arrays on the host. With one seed `to_other_seeds` has arrays without entries.
    """
    if not dictionaries:
        raise ValueError("dictionaries: got none, allowed: one or more")
    arrays = [np.asarray(D, np.float32) for D in dictionaries]
    shapes = [D.shape for D in arrays]
    if any(len(s) != 3 or 0 in s for s in shapes) or len({(s[0], s[-1]) for s in shapes}) > 1:
        raise ValueError(
            f"dictionaries: got shapes {shapes}, allowed: [seeds, d_sae, d_in] with the same "
            "seeds and d_in in each, and none of them 0"
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
    to_larger = {
        (small.shape[1], large.shape[1]): np.stack([*map(mcs, small, large)])
        for small, large in combinations(arrays, 2)
    }
    n_seeds = len(arrays[0])
    others = {}
    for D in arrays:
        pairs = [mcs(D[seed], D[other]) for seed, other in permutations(range(n_seeds), 2)]
        shape = (n_seeds, n_seeds - 1, D.shape[1])
        others[D.shape[1]] = np.reshape(pairs, shape).astype(np.float32)
    return RunMCS(to_larger, others)


def random_mcs(key: PRNGKeyArray, n: int, M: int, K: int) -> Float32[np.ndarray, " n"]:
    """MCS of n random vectors against a random dictionary of M rows, all in K dimensions.

    Every entry is standard normal, as in the text. Unit rows, uniform on the sphere, would give the
    same: a cosine does not see lengths, and directions of normal vectors are uniform.
    """
    for name, size in (("n", n), ("M", M), ("K", K)):
        check_whole(name, size, "1 or more", lambda v: v >= 1)
    rng = generator(key)
    return mcs(*(rng.standard_normal((int(rows), int(K)), np.float32) for rows in (n, M)))
