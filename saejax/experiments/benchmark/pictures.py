"""The benchmark's tables as pictures: picks the columns that `figures` draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saejax.experiments.benchmark import figures as plots
from saejax.experiments.benchmark import goals
from saejax.experiments.benchmark.compare import OURS
from saejax.experiments.benchmark.growth import Growth
from saejax.experiments.benchmark.problem import Shape
from saejax.results.plots.panels import Intervals

Row = Mapping[str, Any]
NAMES = {"highest": "float32"}
MEDIAN_AND_EXTREMES = {
    "seconds": ("fastest", "slowest"),
    "share": ("lowest", "highest"),
    "times_ours": ("lowest", "highest"),
}


def _shape(row: Row) -> Shape:
    return Shape(*(row[name] for name in Shape._fields))


def _name(row: Row) -> str:
    return "d_in {d_in}, d_sae {d_sae:,}, batch {batch:,}, SAEs: {cells}".format(**row)


def _each(rows: Sequence[Row], key: str) -> list[Any]:
    """Values of a column, each once, in order."""
    return list(dict.fromkeys(row[key] for row in rows))


def _series(rows: Sequence[Row], key: str, column: str) -> dict[str, Intervals]:
    """For each value of a column, another one with its extremes."""
    columns = (column, *MEDIAN_AND_EXTREMES[column])
    return {
        str(NAMES.get(name, name)): Intervals(
            *(np.array([r[c] for r in rows if r[key] == name], float) for c in columns)
        )
        for name in _each(rows, key)
    }


def shares(rows: Sequence[Row]) -> Figure:
    """Of the rows of `ours.measure`, every shape in every precision."""
    first = [row for row in rows if row["precision"] == rows[0]["precision"]]
    hoped = [goals.SHARES.get(row["d_in"], np.nan) for row in first]
    return plots.shares([*map(_name, first)], _series(rows, "precision", "share"), hoped)


def growth(rows: Sequence[Row], grows: Growth) -> Figure:
    """Of the same rows with a column `grows` that names the column of the growing number."""
    names = {
        "cells": "SAEs that share a batch",
        "d_sae": "d_sae",
        "seeds": f"seeds (SAEs of each: {grows.base.cells})",
    }
    panels = {}
    for what, name in names.items():
        part = [row for row in rows if row["grows"] == what]
        panels[name] = _each(part, what), _series(part, "precision", "seconds")
    return plots.growth(panels, _name(grows.base._asdict()))


def beside(rows: Sequence[Row], platform: str) -> Figure:
    """Of the rows of `compare.side_by_side`, of one task after another."""
    first = [row for row in rows if row["method"] == OURS]
    reference = np.array([row["objective"] for row in first])
    others = [row for row in rows if row["method"] != OURS]
    objectives = {
        name: np.array([r["objective"] for r in others if r["method"] == name]) / reference
        for name in _each(others, "method")
    }
    needed = [goals.times_saelens(row["d_in"], platform) for row in first]
    hoped = [np.nan if n is None else n for n in needed]
    times = _series(others, "method", "times_ours")
    return plots.beside([*map(_name, first)], times, objectives, hoped)


def fading(rows: Sequence[Row]) -> Figure | None:
    """Of the same rows: tasks that differ in d_sae alone, and in cells alone; None without any."""
    others = [row for row in rows if row["method"] != OURS]
    panels = {}
    for what, fixed in (
        ("d_sae", "d_in {d_in}, batch {batch:,}, SAEs: {cells}"),
        ("cells", "d_in {d_in}, d_sae {d_sae:,}, batch {batch:,}"),
    ):
        alike = [_shape(row)._replace(**{what: 0}) for row in others]
        for rest in dict.fromkeys(alike):
            part = [row for row, shape in zip(others, alike, strict=True) if shape == rest]
            values = _each(part, what)
            if len(values) > 1:
                label = "SAEs" if what == "cells" else what
                series = _series(part, "method", "times_ours")
                panels[label, fixed.format(**rest._asdict())] = values, series
    return plots.fading(panels) if panels else None
