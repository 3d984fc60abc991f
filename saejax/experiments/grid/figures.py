"""Our heat maps beside the published ones."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saejax.core.table import Table
from saejax.experiments.grid import published
from saejax.results.figures import HEATMAPS, variants
from saejax.results.plots import sweep as sweep_plots
from saejax.results.result import Result


def comparisons(result: Result) -> Table:
    """Spearman's rank correlation of each heat map with its published one, where there is one.

    With several seeds the row also has the lowest and the highest of the single seeds; with several
    learning rates or with and without resampling there are rows for each.
    """
    rows = []
    for dataset, metric, variant in product(result.coords["dataset"], HEATMAPS, variants(result)):
        pair = published.beside(result, dataset, metric, **variant.where)
        if pair is None:
            continue
        row: dict[str, Any] = {"dataset": dataset, "metric": metric, **variant.where}
        row["spearman"] = published.rank_correlation(*pair)
        row["cells"] = int(np.isfinite(pair[0]).sum())
        if len(result.coords["seed"]) > 1:
            each = (
                published.beside(result, dataset, metric, seed=seed, **variant.where)
                for seed in result.coords["seed"]
            )
            of_seeds = [published.rank_correlation(*maps) for maps in each if maps is not None]
            row["lowest_seed"] = min(of_seeds, default=None)
            row["highest_seed"] = max(of_seeds, default=None)
        rows.append(row)
    return Table(rows)


def beside_published(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of each heat map that has a published one."""
    rows = comparisons(result)
    for variant in variants(result):
        ratios, l1 = published.shared(result, **variant.where)
        for row in rows:
            dataset, metric = row["dataset"], row["metric"]
            if any(row[axis] != value for axis, value in variant.where.items()):
                continue
            pair = published.beside(result, dataset, metric, **variant.where)
            assert pair is not None
            picture = sweep_plots.beside_published(*pair, ratios, l1, metric, row["spearman"])
            caption = (
                f"{sweep_plots.title_of(metric)}, {dataset} data{variant.words}, beside the "
                f"published map ({published.grid()['note']})."
            )
            yield f"published_{metric}_{dataset}{variant.suffix}", caption, picture
