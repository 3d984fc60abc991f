"""Two-dimensional t-SNE of samples; needs scikit-learn of the extra [studies]."""

import numpy as np
from jaxtyping import Float, Float32

from saejax.analysis.baselines import as_samples, check_seed
from saejax.core.extras import require

# scikit-learn's default, and so the published maps'.
PERPLEXITY = 30.0


def tsne(
    x: Float[np.ndarray, "n d_in"], seed: int = 0, perplexity: float = PERPLEXITY
) -> Float32[np.ndarray, "n 2"]:
    """Two-dimensional t-SNE of samples, from the first two principal components.

    Places y minimise KL(P || Q), where P are the symmetrised Gaussian affinities of the samples,
    each with a bandwidth that gives the perplexity, and q_ij is proportional to 1 / (1 + |y_i -
    y_j|^2). Distances in the result have no unit. Learning rate and the 1000 iterations are
    scikit-learn's. Equal samples are fine: they have distance 0 and end up close together.

    Args:
        x: samples, [n, d_in].
        seed: of the randomised solver for the principal components, where scikit-learn takes it.
        perplexity: effective number of neighbours of a sample.

    Raises:
        ValueError: naming the argument, where x is not a finite matrix of at least two columns, all
            its samples are equal, or the perplexity is not above 0 and below the number of samples.
        ImportError: where scikit-learn is not installed.

    Source: van der Maaten and Hinton (2008), "Visualizing data using t-SNE".
    """
    x = as_samples(x)
    n, d_in = x.shape
    if d_in < 2:
        raise ValueError(f"x: got {d_in} column, allowed: 2 or more")
    if (x == x[0]).all():
        got = f"got {n} samples that are all equal"
        raise ValueError(f"x: {got}, allowed: two different ones or more")
    if not 0 < perplexity < n:
        raise ValueError(f"perplexity: got {perplexity}, allowed: above 0, below the {n} samples")
    check_seed(seed)
    manifold = require("sklearn.manifold", "scikit-learn", "tsne")
    # t-SNE ignores place and scale, but scikit-learn crashes the process where the variance of
    # float32 samples overflows or vanishes.
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    scaled = centred / np.abs(centred).max()
    threads = require("threadpoolctl", "scikit-learn", "tsne")
    # Its threads wait for each other so often that a busy machine made them 10 to 20 times slower.
    with threads.threadpool_limits(1):
        model = manifold.TSNE(init="pca", perplexity=perplexity, random_state=seed)
        return model.fit_transform(scaled)
