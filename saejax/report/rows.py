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
    for each in rows:
        groups.setdefault(tuple(each[key] for key in keys), []).append(each)
    several = any(len(own) > 1 for own in groups.values())
    out = Table()
    for key, own in groups.items():
        row: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"seeds": len(own)}
        for name in names:
            row[name], spread = mean_and_spread(numbers(own, name))
            if several:
                row[f"{name}_sd"] = spread
        out.append(row)
    return out


def said(values: Intervals, spec: str = ".2f") -> str:
    """Numbers of all seeds in words: mean ± sd, or one seed's with its interval; "none" without
    any.

    Args:
        values: [seeds] each.
        spec: number format.
    """
    mean, spread = mean_and_spread(values.value)
    if not np.isfinite(mean):
        return "none"
    if np.isfinite(spread):
        return f"{mean:{spec}} ± {spread:{spec}}"
    at = int(np.isfinite(values.value).argmax())
    low, high = values.low[at], values.high[at]
    return f"{mean:{spec}}" + (f" ({low:{spec}} to {high:{spec}})" if np.isfinite(low) else "")


def span(values: np.ndarray, spec: str = ".2g") -> str:
    """Lowest and highest of several numbers in words; "none" without any."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "none"
    ends = [f"{v:{spec}}" for v in (finite.min(), finite.max())]
    return " to ".join(dict.fromkeys(ends))
