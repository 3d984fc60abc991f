"""How far sweeps that differ in a setting differ in results, against the spread over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from saejax.result import Result
from saejax.table import Table


def agreement(reference: Result, others: Mapping[str, Result], metrics: Sequence[str]) -> Table:
    """One row for each sweep, data set and metric.

    With x and y the values of one cell in the reference and the other sweep, over the seeds,

        reference   mean of x over cells and seeds
        seed_sd     root of the mean over cells of var_seeds(x), divisor n - 1
        shift       mean over cells and seeds of y - x, which are paired by seed
        +-          half of the 95 % interval of the shift, Student's t over the seeds
        moved       root of the mean over cells of (mean_seeds(y) - mean_seeds(x))^2
        inside      share of cells with |mean_seeds(y) - mean_seeds(x)| <= sd_seeds(x)

    Cells that were frozen in any of the two are left out.

    Args:
        reference: a sweep over several seeds.
        others: name -> a sweep with the same axes.
        metrics: what is compared.

    Raises:
        ValueError: for a sweep of other axes, and for a single seed, which has no spread.
    """
    if len(reference.coords["seed"]) < 2:
        raise ValueError(f"seeds: got {reference.coords['seed']}, allowed: two or more, for a spread")
    rows = []
    for name, other in others.items():
        if other.coords != reference.coords:
            raise ValueError(f"{name}: got other axes than the reference, allowed: the same")
        for metric in metrics:
            x, y = (r.values(metric) for r in (reference, other))
            for i, dataset in enumerate(reference.coords["dataset"]):
                rows.append({"sweep": name, "dataset": dataset, "metric": metric, **_row(x[i], y[i])})
    return Table(rows)


def _row(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The figures of one data set; arrays [seed, ...]."""
    n_seeds = len(x)
    x, y = (a.reshape(n_seeds, -1) for a in (x, y))
    whole = np.isfinite(x).all(0) & np.isfinite(y).all(0)
    x, y = x[:, whole], y[:, whole]
    by_seed = (y - x).mean(1)
    sd, moved = x.std(0, ddof=1), (y - x).mean(0)
    half = stats.t.ppf(0.975, n_seeds - 1) * by_seed.std(ddof=1) / np.sqrt(n_seeds)
    return {
        "reference": float(x.mean()),
        "seed_sd": float(np.sqrt((sd**2).mean())),
        "shift": float(by_seed.mean()),
        "+-": float(half),
        "moved": float(np.sqrt((moved**2).mean())),
        "inside": float((np.abs(moved) <= sd).mean()),
    }
