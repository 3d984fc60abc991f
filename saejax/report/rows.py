"""Tables of a page: means over seeds, and numbers in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saejax.core.stats import mean_and_spread
from saejax.core.table import Table
from saejax.results.plots.panels import Intervals

Rows = Sequence[Mapping[str, Any]]


def numbers(rows: Rows, name: str) -> np.ndarray:
    """A column of rows; NaN where there is no value."""
    return np.array([row[name] for row in rows], float)


def over_seeds(rows: Rows, keys: Sequence[str], names: Sequence[str]) -> Table:
    """Mean and standard deviation of columns over rows that have the same keys.

    Args:
        rows: one a seed and key.
        keys: columns that stay.
        names: columns of numbers; with one seed they have no standard deviations beside them.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    several = any(len(seeds) > 1 for seeds in groups.values())
    table = Table()
    for key, seeds in groups.items():
        mean: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"seeds": len(seeds)}
        for name in names:
            mean[name], spread = mean_and_spread(numbers(seeds, name))
            if several:
                mean[f"{name}_sd"] = spread
        table.append(mean)
    return table


def said(values: Intervals, spec: str = ".2f") -> str:
    """Numbers of all seeds in words: mean ± sd, or one seed's with its interval, or "none"."""
    mean, spread = mean_and_spread(values.value)
    if not np.isfinite(mean):
        return "none"
    if np.isfinite(spread):
        return f"{mean:{spec}} ± {spread:{spec}}"
    seed = int(np.isfinite(values.value).argmax())
    low, high = values.low[seed], values.high[seed]
    return f"{mean:{spec}}" + (f" ({low:{spec}} to {high:{spec}})" if np.isfinite(low) else "")


def span(values: np.ndarray, spec: str = ".2g") -> str:
    """Lowest and highest of several numbers in words; "none" without any."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "none"
    ends = [f"{v:{spec}}" for v in (finite.min(), finite.max())]
    return " to ".join(dict.fromkeys(ends))
