"""How far sweeps that differ in a setting differ in results, against the spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saejax.core.stats import half_interval
from saejax.core.table import Table
from saejax.metrics.catalogue import METRICS
from saejax.results.axes import AXES, coordinates, same
from saejax.results.result import Result


def compare(a: Result, b: Result, metrics: Sequence[str] | None = None) -> Table:
    """How two sweeps differ, cell by cell, paired by seed.

    One row for each metric and each setting that both have, with

        a, b         means over the seeds that both have
        difference   mean over these of b - a
        +-           half of its 95 % interval, Student's t over the seeds; empty for one seed
        seeds        how many

    Args:
        a: a result.
        b: another, whatever it was trained with.
        metrics: what is compared; None: every metric that both have.

    Raises:
        ValueError: where they have no cell or no metric in common, and for an unknown metric.
    """
    theirs = {}
    for j in b.cells():
        at = coordinates(b.coords, j)
        # Under the first sweep's values; None, which is no coordinate, for what that one lacks.
        key = (next((v for v in a.coords[n] if same(v, at[n])), None) for n in AXES)
        theirs[tuple(key)] = j
    pairs: dict[tuple, list[tuple]] = {}
    for i in a.cells():
        at = coordinates(a.coords, i)
        j = theirs.get(tuple(at.values()))
        if j is not None:
            pairs.setdefault(tuple(at[n] for n in AXES if n != "seed"), []).append((i, j))
    rows = []
    for metric in metrics or [n for n in METRICS if n in a.final and n in b.final]:
        x, y = a.values(metric), b.values(metric)
        for setting, cells in pairs.items():
            both = np.array([(x[i], y[j]) for i, j in cells], float)
            both = both[np.isfinite(both).all(1)]
            if len(both):
                where = zip((n for n in AXES if n != "seed"), setting, strict=True)
                swept = {n: v for n, v in where if max(len(r.coords[n]) for r in (a, b)) > 1}
                rows.append({"metric": metric, **swept, **_paired(both)})
    if not rows:
        raise ValueError("compare: got results without a cell in common, allowed: with some")
    return Table(rows)


def _paired(both: np.ndarray) -> dict[str, Any]:
    """Means, difference and interval of pairs [seed, 2]."""
    a, b = both.mean(0).tolist()
    by_seed = both[:, 1] - both[:, 0]
    difference, half = float(by_seed.mean()), _half_interval(by_seed)
    return {"a": a, "b": b, "difference": difference, "+-": half, "seeds": len(both)}


def _half_interval(by_seed: np.ndarray) -> float | None:
    return half_interval(by_seed) if len(by_seed) > 1 else None


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
        raise ValueError(
            f"seeds: got {reference.coords['seed']}, allowed: two or more, for a spread"
        )
    rows = []
    for name, other in others.items():
        if other.coords != reference.coords:
            raise ValueError(f"{name}: got other axes than the reference, allowed: the same")
        for metric in metrics:
            x, y = (r.values(metric) for r in (reference, other))
            for i, dataset in enumerate(reference.coords["dataset"]):
                rows.append(
                    {"sweep": name, "dataset": dataset, "metric": metric, **_row(x[i], y[i])}
                )
    return Table(rows)


def _row(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The figures of one data set; arrays [seed, ...]."""
    n_seeds = len(x)
    x, y = (a.reshape(n_seeds, -1) for a in (x, y))
    whole = np.isfinite(x).all(0) & np.isfinite(y).all(0)
    x, y = x[:, whole], y[:, whole]
    by_seed = (y - x).mean(1)
    sd, moved = x.std(0, ddof=1), (y - x).mean(0)
    return {
        "reference": float(x.mean()),
        "seed_sd": float(np.sqrt((sd**2).mean())),
        "shift": float(by_seed.mean()),
        "+-": _half_interval(by_seed),
        "moved": float(np.sqrt((moved**2).mean())),
        "inside": float((np.abs(moved) <= sd).mean()),
    }
