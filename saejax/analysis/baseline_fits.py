"""How well baseline methods recover the true features, on the very data that a sweep trains on.

A seed has the same true features and the same stream of batches as in a sweep, so baselines and
SAEs of one seed are paired.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from saejax.analysis import baselines
from saejax.analysis.baselines import Method
from saejax.core.keys import stream
from saejax.core.linalg import cosines
from saejax.data.synthetic import recipe
from saejax.data.synthetic.recipe import Synthetic, Truth
from saejax.results.axes import AXES
from saejax.results.result import Result


def truth_of(spec: Synthetic, seed: int) -> Truth:
    """Ground truth of one seed, as a sweep has it."""
    return recipe.truth(spec, stream(seed, "truth"))


def samples_of(spec: Synthetic, seed: int, n: int, batch_size: int) -> Float[np.ndarray, "n d_in"]:
    """The first `n` samples that an SAE of this seed is trained on, in batches of `batch_size`.

    Samples of one batch share a draw in the `correlated` kind.
    """
    return _first(recipe.sample, spec, seed, n, batch_size)


def codes_of(spec: Synthetic, seed: int, n: int, batch_size: int) -> np.ndarray:
    """The true feature activations [n, n_features] in `samples_of`, with the same arguments."""
    return _first(recipe.codes, spec, seed, n, batch_size)


@cache
def _batch(draw: Callable, spec: Synthetic, batch_size: int) -> Callable:
    """Compiled once for a data set, whatever the seeds and the number of samples."""
    return jax.jit(lambda t, key, step: draw(spec, t, jax.random.fold_in(key, step), batch_size))


def _first(draw: Callable, spec: Synthetic, seed: int, n: int, batch_size: int) -> np.ndarray:
    t, key = truth_of(spec, seed), stream(seed, "batches")
    one = _batch(draw, spec, batch_size)
    batches = [np.asarray(one(t, key, step)) for step in range(-(-n // batch_size))]
    return np.concatenate(batches)[:n]


class Measured(NamedTuple):
    """A row of results, and each true feature's best cosine (NaN where the method failed)."""

    row: dict[str, Any]
    best_cosine: Float[np.ndarray, " n_features"]


def measure(
    method: Method, x: Float[np.ndarray, "n d_in"], t: Truth, seed: int, max_iter: int | None = None
) -> Measured:
    """Fits a method with as many components as there are true features, and scores it.

    The row has the fields of `saejax.analysis.baselines.Fit`, the `seconds` of the fit alone, and

    - mmcs: MMCS of the true features with the fitted dictionary,
    - mmcs_either_sign: the same where every direction may be turned around: the sign of a principal
      axis or independent component is arbitrary, that of a feature is not,
    - rarity_correlation: Spearman's rank correlation of the features' firing probabilities with
      their best cosines: positive where common features are represented better; NaN for equal
      probabilities.

    t is the ground truth behind the samples x; the rest is as in `saejax.analysis.baselines.fit`.
    """
    F = np.asarray(t.F)
    started = time.perf_counter()
    fit = baselines.fit(method, x, len(F), seed=seed, max_iter=max_iter)
    seconds = time.perf_counter() - started
    best = either = np.full(len(F), np.nan)
    if len(fit.dictionary):
        cosine = np.asarray(cosines(t.F, jax.numpy.asarray(fit.dictionary)), float)
        best, either = cosine.max(1), np.abs(cosine).max(1)
    row = {
        "method": method,
        "n_samples": len(x),
        "seed": seed,
        "mmcs": float(best.mean()),
        "mmcs_either_sign": float(either.mean()),
        "rarity_correlation": rarity_correlation(np.asarray(t.p), best),
        "converged": fit.converged,
        "iterations": fit.iterations,
        "seconds": seconds,
        "message": fit.message,
    }
    return Measured(row, best)


def rarity_correlation(
    p: Float[np.ndarray, " n_features"], best_cosine: Float[np.ndarray, " n_features"]
) -> float:
    """Spearman's rank correlation of firing probability and best cosine; NaN if either is flat."""
    if np.isnan(best_cosine).any() or np.ptp(p) == 0 or np.ptp(best_cosine) == 0:
        return float("nan")
    return float(spearmanr(p, best_cosine).statistic)  # pyright: ignore


class Comparison(NamedTuple):
    """Which fits a comparison of methods makes."""

    specs: Mapping[str, Synthetic]  # the data sets by name
    methods: Sequence[Method]
    seeds: Sequence[int]  # each with features and samples of its own
    sizes: Sequence[int]  # numbers of samples that every method is fitted to
    kmeans_sizes: Sequence[int]  # further ones for k-means alone
    batch_size: int  # see `samples_of`

    def methods_at(self, n: int) -> list[Method]:
        """The methods that are fitted to `n` samples."""
        return [
            m for m in self.methods if n in self.sizes or (m == "kmeans" and n in self.kmeans_sizes)
        ]

    @property
    def n_fits(self) -> int:
        """Number of all fits."""
        sizes = {*self.sizes, *self.kmeans_sizes}
        return len(self.specs) * len(self.seeds) * sum(len(self.methods_at(n)) for n in sizes)


def compare(plan: Comparison) -> Iterator[Measured]:
    """Every fit of a comparison, the small ones first; rows also name their `dataset`."""
    for n in sorted({*plan.sizes, *plan.kmeans_sizes}):
        for dataset, spec in plan.specs.items():
            for seed in plan.seeds if plan.methods_at(n) else ():
                x, t = samples_of(spec, seed, n, plan.batch_size), truth_of(spec, seed)
                for method in plan.methods_at(n):
                    measured = measure(method, x, t, seed)
                    yield measured._replace(row={"dataset": dataset, **measured.row})


def of_saes(grid: Result, plan: Comparison) -> dict[str, Float[np.ndarray, "seeds n_features"]]:
    """Best cosines of the true features in the SAEs of a grid run on the data sets of a plan.

    Returns:
        `DATASET/SAE, ...` for the best L1 (by MMCS, mean over the seeds) of ratio 1, which has as
        many directions as k-means, and of the best ratio. All seeds of the grid; NaN in those whose
        SAE was frozen as not finite.
    """
    assert grid.best_cosine is not None
    out = {}
    for dataset in plan.specs:
        wheres = [{"ratio": 1.0}, {}] if 1.0 in grid.coords["ratio"] else [{}]
        for where in wheres:
            best = grid.best("mmcs_true_to_dict", dataset=dataset, **where)
            cells = grid.select(**{name: best[name] for name in AXES if name != "seed"})
            chosen = np.ix_(*cells)
            trained = grid.final["frozen_at"][chosen] < 0
            cosine = np.where(trained[..., None], grid.best_cosine[-1][chosen], np.nan)
            name = f"SAE, ratio {best['ratio']:g}, L1 {best['l1']:.2g}"
            out[f"{dataset}/{name}"] = cosine.reshape(-1, cosine.shape[-1])
    return out
