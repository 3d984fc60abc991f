"""Every picture of a sweep with its file name and caption."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from saejax.metrics.catalogue import COMPARED, HEATMAPS, TRACKED
from saejax.results.plots import sweep as sweep_plots
from saejax.results.result import Result


class Variant(NamedTuple):
    """One of `Result.variants`, as file names, headings and `Result.select` take it."""

    suffix: str
    words: str
    where: dict[str, Any]


def variants(result: Result) -> list[Variant]:
    """The result's variants with their names, which are empty where no such axis is swept."""
    return [
        Variant(
            "".join(f"_{name}-{value}" for name, value in where.items()),
            "".join(f", {name} = {value}" for name, value in where.items()),
            where,
        )
        for where in result.variants
    ]


def heatmaps(result: Result, variant: Variant) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of each heat map of one variant."""
    axis = _sparsity(result, variant)
    for metric in (*HEATMAPS, *result.own_metrics):
        if metric in result.final and np.isfinite(result.final[metric]).any():
            title = sweep_plots.title_of(metric)
            caption = f"{title} over {axis} and dictionary ratio{variant.words}."
            picture = result.plot_heatmap(metric, **variant.where)
            yield f"heatmap_{metric}{variant.suffix}", caption, picture


def _sparsity(result: Result, variant: Variant) -> str:
    """What the axis is called along which the SAEs of a variant become sparser."""
    return sweep_plots.called(result.sparsity(**variant.where)[0])


def frontier(result: Result, variant: Variant) -> tuple[str, str, Figure]:
    """Name, caption and picture of the trade between sparsity and reconstruction."""
    axis = _sparsity(result, variant)
    caption = f"Every SAE as a point; a line joins the {axis} values of one ratio{variant.words}."
    return f"frontier{variant.suffix}", caption, result.plot_frontier(**variant.where)


def training(result: Result, variant: Variant) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of what is tracked over training, without what has frozen."""
    for dataset in result.coords["dataset"]:
        for metric, curve in TRACKED.items():
            if metric in result.history:
                caption = f"{curve.title} during training, {dataset} data{variant.words}."
                picture = result.plot_training(metric, dataset=dataset, **variant.where)
                yield f"training_{metric}_{dataset}{variant.suffix}", caption, picture


def architectures(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of all architectures at the same sparsity, for each ratio."""
    several = len(result.coords["architecture"])
    # Cells of one architecture that differ in more than L1 or k would make several lines of it.
    if several == 1 or len(result.variants) > several:
        return
    metrics = COMPARED if "mmcs_true_to_dict" in result.final else ("fvu", "dead_latents")
    for ratio in result.coords["ratio"]:
        caption = (
            f"What each architecture reaches at which L0, ratio {ratio:g}; a point for each SAE."
        )
        picture = result.plot_architectures(metrics, ratio=ratio)
        yield f"architectures_ratio-{ratio:g}", caption, picture
