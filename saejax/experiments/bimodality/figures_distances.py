"""Pictures of earth mover's distances, and of numbers of every two sizes."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize, PowerNorm

from saejax.core.stats import mean_and_spread
from saejax.experiments.common.figures import annotated
from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import Intervals, at_sizes, dots, grid, logarithmic, nothing

COLOURS = ("#2166ac", "0.45", "#e08214", "#7b3294")
EXPECTED = "#d7301f"
DISTANCE = "earth mover's distance,\nthousandths of cosine"


def pairs(panels: Mapping[str, np.ndarray], sizes: Sequence[int]) -> Figure:
    """Heat maps of a number from 0 to 1 of every size (down) against every larger one (right).

    Args:
        panels: title -> [seeds, sizes, sizes], NaN where the second size is not the larger one.
        sizes: rising.
    """
    n, names = len(sizes) - 1, [f"{size:,}" for size in sizes]
    fig, axes = grid(len(panels), 2, max(3.6, 0.85 * n + 1.4), max(2.4, 0.55 * n + 1.2), 0.2)
    image = None
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        mean, spread = mean_and_spread(values[:, :-1, 1:])
        texts = [[f"{m:.2f}" for m in row] for row in mean]
        for i, j in np.ndindex(spread.shape):
            if np.isfinite(spread[i, j]):
                texts[i][j] += f"\n±{spread[i, j]:.2f}"
        image = annotated(ax, mean, texts, colormaps["viridis"], Normalize(0, 1))
        ax.set_xticks(range(n), names[1:])
        ax.set_yticks(range(n), names[:-1])
        ax.set(xlabel="d_sae of the larger dictionary", ylabel="d_sae")
        ax.set_title(title, fontsize=10)
    if image is not None:
        fig.colorbar(image, ax=axes, shrink=0.9)
    return fig


def _short(value: float) -> str:
    """A number to two figures, or to a whole number."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def distances(panels: Mapping[str, Intervals], labels: Sequence[str], title: str) -> Figure:
    """Matrices of earth mover's distances, with intervals, on one colour scale.

    Args:
        panels: title -> distances [samples, samples] in units of cosine, NaN without a sample.
        labels: of the samples.
        title: of the figure.
    """
    n = len(labels)
    fig, axes = grid(len(panels), 2, 0.78 * n + 1.2, 0.5 * n + 1.1, 0.4)
    known = [panel.value[np.isfinite(panel.value)] for panel in panels.values()]
    top = 1000 * max((float(x.max()) for x in known if x.size), default=0.0)
    norm = PowerNorm(0.5, 0, top or 1.0)
    image = None
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        value, low, high = (1000 * x for x in panel)
        texts = [["0"] * n for _ in range(n)]
        for i, j in permutations(range(n), 2):
            ends = f"{_short(low[i, j])} to {_short(high[i, j])}"
            texts[i][j] = f"{_short(value[i, j])}\n({ends})"
        image = annotated(ax, value, texts, colormaps["YlGnBu"], norm, 6.5)
        if not np.isfinite(value).any():
            nothing(ax, "no latent is below the cutoff")
        ax.set_xticks(range(n), labels, fontsize=8)
        ax.set_yticks(range(n), labels, fontsize=8)
        ax.set_title(name, fontsize=10)
    if image is not None:
        fig.colorbar(image, ax=axes, shrink=0.8, label=DISTANCE)
    fig.suptitle(title, fontsize=10.5)
    return fig


def distances_over_sizes(
    series: Mapping[str, Intervals], expected: np.ndarray, sizes: Sequence[int], title: str
) -> Figure:
    """Earth mover's distances of every seed with their intervals, and lines through the means.

    Args:
        series: between what and what -> distances, in units of cosine.
        expected: [seeds, sizes], the first distance to be expected if learned were random.
        sizes: d_sae.
        title: of the figure.
    """
    fig = Figure(figsize=(max(5.6, 1.35 * len(sizes) + 3.2), 3.8), layout="constrained")
    ax = fig.subplots()
    at, width = at_sizes(ax, sizes), 0.7 / len(series)
    for i, (name, each) in enumerate(series.items()):
        centre = at + (i - (len(series) - 1) / 2) * width
        dots(ax, centre, Intervals(*(1000 * part for part in each)), COLOURS[i], 0.7 * width)
        mean = 1000 * mean_and_spread(each.value)[0]
        ax.plot(centre, mean, color=COLOURS[i], lw=1, label=name)
        if i == 0:
            mean, label = 1000 * mean_and_spread(expected)[0], f"{name},\nif learned were random"
            ax.plot(centre, mean, "D", color=EXPECTED, ms=6, mfc="none", label=label)
    values = np.concatenate([part.ravel() for each in series.values() for part in each])
    values = values[np.isfinite(values)]
    if not values.size:
        nothing(ax, "no latent is below the cutoff")
    elif values.min() > 0:
        logarithmic(ax)
    ax.set_ylabel(DISTANCE)
    fig.legend(loc="outside right center", fontsize=8.5)
    lines = "lines: means over seeds" if len(expected) > 1 else "lines join the sizes"
    fig.suptitle(f"{title}\ndots: seeds with intervals, {lines}", fontsize=10.5)
    return fig
