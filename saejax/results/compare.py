"""How far sweeps that differ in a setting differ in results, against the spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saejax.core.table import Table
from saejax.metrics.catalogue import LARGER_IS_BETTER
from saejax.results.axes import AXES, coordinates, same
from saejax.results.merge import Index, value_like
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
    names = metrics or [n for n in LARGER_IS_BETTER if n in a.final and n in b.final]
    axes = [name for name in AXES if name != "seed"]
    common = {
        name: [v for v in a.coords[name] if any(same(v, w) for w in b.coords[name])]
        for name in AXES
    }
    there = [{tuple(coordinates(r.coords, i).values()) for i in r.cells()} for r in (a, b)]
    rows = []
    for metric in names:
        x, y = a.values(metric), b.values(metric)
        for where in _settings(a, axes, common):
            pairs = [
                (x[i], y[j])
                for seed in common["seed"]
                if (i := _find(a, there[0], where | {"seed": seed})) is not None
                and (j := _find(b, there[1], where | {"seed": seed})) is not None
            ]
            both = np.array([pair for pair in pairs if np.isfinite(pair).all()])
            if len(both):
                rows.append({"metric": metric, **_swept(a, b, where), **_paired(both)})
    if not rows:
        raise ValueError("compare: got results without a cell in common, allowed: with some")
    return Table(rows)


def _settings(a: Result, axes: list[str], common: dict[str, list]) -> list[dict[str, Any]]:
    """Coordinates besides the seed of the cells of a that lie on common values."""
    found: dict[tuple, dict[str, Any]] = {}
    for index in a.cells():
        at = coordinates(a.coords, index)
        if all(at[name] in common[name] for name in axes):
            found.setdefault(tuple(at[name] for name in axes), {name: at[name] for name in axes})
    return list(found.values())


def _find(result: Result, there: set[tuple], where: dict[str, Any]) -> Index | None:
    """Position of a cell, None where there is none."""
    at = {name: value_like(result.coords[name], where[name]) for name in AXES}
    if tuple(at.values()) not in there:
        return None
    return tuple(result.coords[name].index(value) for name, value in at.items())


def _swept(a: Result, b: Result, where: dict[str, Any]) -> dict[str, Any]:
    """The coordinates that differ between cells of either."""
    return {n: v for n, v in where.items() if len(a.coords[n]) > 1 or len(b.coords[n]) > 1}


def _paired(both: np.ndarray) -> dict[str, Any]:
    """Means, difference and interval of pairs [seed, 2]."""
    both = both.astype(float)
    n, by_seed = len(both), both[:, 1] - both[:, 0]
    half = None
    if n > 1:
        from scipy.stats import t as student_t  # half a second to import

        half = float(student_t.ppf(0.975, n - 1) * by_seed.std(ddof=1) / np.sqrt(n))
    a, b = both.mean(0).tolist()
    return {"a": a, "b": b, "difference": float(by_seed.mean()), "+-": half, "seeds": n}


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


def _row(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The figures of one data set; arrays [seed, ...]."""
    n_seeds = len(x)
    x, y = (a.reshape(n_seeds, -1) for a in (x, y))
    whole = np.isfinite(x).all(0) & np.isfinite(y).all(0)
    x, y = x[:, whole], y[:, whole]
    by_seed = (y - x).mean(1)
    sd, moved = x.std(0, ddof=1), (y - x).mean(0)
    from scipy.stats import t as student_t

    half = student_t.ppf(0.975, n_seeds - 1) * by_seed.std(ddof=1) / np.sqrt(n_seeds)
    return {
        "reference": float(x.mean()),
        "seed_sd": float(np.sqrt((sd**2).mean())),
        "shift": float(by_seed.mean()),
        "+-": float(half),
        "moved": float(np.sqrt((moved**2).mean())),
        "inside": float((np.abs(moved) <= sd).mean()),
    }
