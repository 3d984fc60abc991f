"""Dictionaries from k-means, k-medoids, PCA and ICA, to compare with those of SAEs.

All but PCA, which studies of the core installation draw too, need the extra [studies].
"""

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial.distance import cdist

from saejax.core.checks import check_choice
from saejax.core.extras import require

Method = Literal["kmeans", "kmedoids", "pca", "ica"]
METHODS: tuple[Method, ...] = get_args(Method)

_Found = tuple[np.ndarray, bool, int | None]  # dictionary, converged, iterations


@dataclass(frozen=True, eq=False)
class Fit:
    """The dictionary that a method found, and how the fit ended.

    Attributes:
        dictionary: a direction in each row, not normalised; no rows where the method failed.
        converged: whether the method's own criterion was met.
        iterations: how many the library counted; None where the method does not iterate or failed.
        message: one line with what was warned of or raised; empty if nothing was.
    """

    dictionary: Float32[np.ndarray, "n_components d_in"]
    converged: bool
    iterations: int | None
    message: str


def as_samples(x: Float[np.ndarray, "n d_in"]) -> Float32[np.ndarray, "n d_in"]:
    """Samples in float32; a ValueError where they are no matrix, empty or not finite in float32."""
    if np.ndim(x) != 2 or np.size(x) == 0:
        raise ValueError(f"x: got shape {np.shape(x)}, allowed: [n, d_in] with 1 or more of both")
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.float32)
    bad = x.size - np.isfinite(x).sum()
    if bad:
        raise ValueError(f"x: got {bad} entries that are not finite in float32, allowed: none")
    return x


def check_seed(seed: int) -> None:
    """Refuses what no library takes as a seed, before it can look like a failed fit."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed}, allowed: from 0 to {2**32 - 1}")


def fit(
    method: Method,
    x: Float[np.ndarray, "n d_in"],
    n_components: int,
    seed: int = 0,
    max_iter: int | None = None,
) -> Fit:
    """Dictionary of a baseline method.

    - `kmeans`: the centres of Lloyd's algorithm from one k-means++ start. Converged when one more
      iteration moves them within scikit-learn's tolerance (summed squares at most 1e-4 of the mean
      variance of a coordinate). Duplicate samples can leave fewer centres, with a message.
    - `kmedoids`: the samples that FasterPAM chooses on Euclidean distances from a random start; an
      all-zero sample may be one of them. Converged when no swap lowers the loss. The distance
      matrix takes 12 bytes n^2 while it is made.
    - `pca`: the right singular vectors of the centred samples, by falling variance; min(n, d_in) of
      them at most. Always converged. Where the samples vary along fewer directions than that (they
      do whenever n <= d_in), the other axes are an arbitrary completion, with a message.
    - `ica`: the columns of FastICA's mixing matrix (logcosh, symmetric, unit-variance sources),
      as many as the centred samples have directions of variance at most, so at most
      min(n - 1, d_in): whitening any other would divide by rounding errors. Fewer than
      min(n_components, n, d_in) come with a message. Converged when FastICA says so. FastICA
      divides by the sign of what the first column of x has in each direction, and can fail where
      that is 0.

    MMCS compares signed cosines. Centres and medoids have the sign of the data. Axes and
    independent components are defined up to sign, and one that points away from its feature counts
    for nothing:

    - `pca` has scikit-learn's convention, the entry of largest absolute value is positive, which
      has nothing to do with the features.
    - `ica` has the sign that FastICA ends with, which the seed decides; about half point away.
      `np.linalg.pinv(dictionary).T` are the rows of its unmixing matrix (`components_`).

    All but `pca` are random in the seed. With several threads k-means sums in no fixed order, so
    its results repeat up to rounding.

    Args:
        method: one of METHODS.
        x: samples, [n, d_in].
        n_components: rows of the dictionary that are asked for.
        seed: of the start. Not read by `pca`.
        max_iter: iterations of the library at most; None is the library's own default: 300, 100 and
            200 for `kmeans`, `kmedoids` and `ica`. Not read by `pca`.

    Where the library fails numerically, the fit has no rows, and the reason as message.

    Raises:
        ValueError: naming the argument, where one is outside its range, x is not a finite matrix,
            or more clusters are asked for than there are samples.
        ImportError: where the method's package is not installed.

    Source: Arthur and Vassilvitskii (2007) for k-means++; Schubert and Rousseeuw (2021), "Fast and
    eager k-medoids clustering"; Hyvarinen and Oja (2000), "Independent component analysis".
    """
    check_choice("method", method, ", ".join(METHODS), METHODS)
    x = as_samples(x)
    if n_components < 1:
        raise ValueError(f"n_components: got {n_components}, allowed: 1 or more")
    if method in ("kmeans", "kmedoids") and n_components > len(x):
        raise ValueError(
            f"n_components: got {n_components}, allowed: up to the {len(x)} samples for {method}"
        )
    check_seed(seed)
    if max_iter is not None and max_iter < 1:
        raise ValueError(f"max_iter: got {max_iter}, allowed: 1 or more, or None")

    # Squares of very large or small samples would overflow or vanish in float32. A power of two
    # changes no other digit of any result.
    exponent = np.frexp(np.abs(x).max())[1]
    scaled = np.ldexp(x, -exponent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            dictionary, converged, iterations = _FITTERS[method](
                scaled, n_components, seed, max_iter
            )
            if method != "pca":
                dictionary = np.ldexp(dictionary, exponent)
            dictionary = np.asarray(dictionary, np.float32)
            if not np.isfinite(dictionary).all():
                raise np.linalg.LinAlgError("the dictionary is not finite")
            raised = []
        except (np.linalg.LinAlgError, ValueError) as error:
            dictionary, converged, iterations = np.zeros((0, x.shape[1]), np.float32), False, None
            raised = [error]
    lines = [" ".join(str(each).split()) for each in [*raised, *(w.message for w in caught)]]
    return Fit(dictionary, converged, iterations, "; ".join(dict.fromkeys(lines)))


def _kmeans(x: np.ndarray, n_components: int, seed: int, max_iter: int | None) -> _Found:
    cluster = require("sklearn.cluster", "scikit-learn", "kmeans")
    limit = max_iter or 300
    model = cluster.KMeans(n_components, n_init=1, max_iter=limit, random_state=seed).fit(x)
    centres = model.cluster_centers_
    converged = model.n_iter_ < limit
    if not converged:
        # scikit-learn counts an iteration whether or not it was the last one needed. A run from the
        # centres stops at its first iteration only if that is within the tolerance.
        again = cluster.KMeans(n_components, init=centres, n_init=1, max_iter=2).fit(x)
        converged = again.n_iter_ == 1
    return centres, converged, int(model.n_iter_)


def _kmedoids(x: np.ndarray, n_components: int, seed: int, max_iter: int | None) -> _Found:
    kmedoids = require("kmedoids", "kmedoids", "kmedoids")
    limit = max_iter or 100
    # SciPy subtracts before it squares, so that equal samples are at distance 0 exactly.
    distances = cdist(x, x).astype(np.float32)
    # One thread: with several, sums have no fixed order, and NumPy's global generator is used.
    pam = kmedoids.fasterpam(distances, n_components, max_iter=limit, random_state=seed, n_cpu=1)
    converged = pam.n_iter < limit
    if not converged:
        # The last pass may have swapped nothing, or may have been the last that swaps.
        again = kmedoids.fasterpam(distances, pam.medoids, max_iter=1, n_cpu=1)
        converged = again.n_swap == 0
    return x[pam.medoids], converged, int(pam.n_iter)


def _centred(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - x.mean(0)


def _rank(singular_values: np.ndarray, d_in: int) -> int:
    """Number of directions that vary by more than the rounding of float32 samples."""
    floor = d_in * np.finfo(np.float32).eps * singular_values[0]
    return int((singular_values > floor).sum())


def _pca(x: np.ndarray, n_components: int, *_unread: object) -> _Found:
    _, singular_values, axes = np.linalg.svd(_centred(x), full_matrices=False)
    axes = axes[:n_components]
    rank = _rank(singular_values, x.shape[1])
    if rank < len(axes):
        warnings.warn(
            f"only {rank} of {len(axes)} axes carry variance, the rest is arbitrary", stacklevel=2
        )
    largest = np.abs(axes).argmax(1)[:, None]
    return axes * np.sign(np.take_along_axis(axes, largest, 1)), True, None


def _ica(x: np.ndarray, n_components: int, seed: int, max_iter: int | None) -> _Found:
    decomposition = require("sklearn.decomposition", "scikit-learn", "ica")
    # float32 rounding comes close to FastICA's tolerance: it took up to twice the iterations.
    x = _centred(x)
    rank = _rank(np.linalg.svd(x, compute_uv=False), x.shape[1])
    if rank == 0:
        raise np.linalg.LinAlgError("all samples are equal, there is nothing to whiten")
    asked = min(n_components, *x.shape)
    if rank < asked:
        warnings.warn(f"the samples vary along {rank} of {asked} directions only", stacklevel=2)
    model = decomposition.FastICA(
        min(rank, asked), whiten="unit-variance", max_iter=max_iter or 200, random_state=seed
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x)
    for each in caught:
        warnings.warn(each.message, stacklevel=2)
    # The number of iterations would not tell: the last one allowed may be the one that converges.
    unconverged = require("sklearn.exceptions", "scikit-learn", "ica").ConvergenceWarning
    converged = not any(issubclass(each.category, unconverged) for each in caught)
    return model.mixing_.T, converged, int(model.n_iter_)


_FITTERS = {"kmeans": _kmeans, "kmedoids": _kmedoids, "pca": _pca, "ica": _ica}
