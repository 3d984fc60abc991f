"""Pictures of baseline methods: MMCS against data size, representedness, and maps of the data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import NullLocator

from saejax.results.plots.figure import Figure


class Box(NamedTuple):
    """The fits of one method to one number of samples.

    Attributes:
        n_samples: that number.
        mmcs: one value a seed; NaN where the fit failed.
        unconverged: how many of the fits had not converged when they stopped, failed ones among
            them.
    """

    n_samples: int
    mmcs: np.ndarray
    unconverged: int


def boxes(
    panels: Mapping[str, Sequence[Box]], published: Mapping[str, float], title: str
) -> Figure:
    """MMCS against the number of samples, a panel for each method.

    Args:
        panels: method -> its boxes.
        published: method -> the text's figure, drawn as a line.
        title: of the figure.
    """
    fig = Figure(figsize=(3.1 * len(panels) + 0.6, 3.7), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (name, each) in zip(axes, panels.items(), strict=True):
        values = [box.mmcs[np.isfinite(box.mmcs)] for box in each]
        at = range(1, len(each) + 1)
        ax.boxplot(values, positions=list(at), widths=0.55, medianprops={"color": "#d7301f"})
        for i, (box, inside) in enumerate(zip(each, values, strict=True), 1):
            ax.plot(np.full(len(inside), i), inside, "o", ms=2.5, color="#1f4e79", alpha=0.6)
            if box.unconverged:
                above, text = inside.max(initial=0.0) + 0.015, f"{box.unconverged}/{len(box.mmcs)}*"
                ax.text(i, above, text, ha="center", fontsize=7)
        if name in published:
            theirs = published[name]
            ax.axhline(theirs, color="0.45", ls="--", lw=1)
            right: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            looks = {"color": "0.35", "ha": "right", "fontsize": 7}
            ax.annotate(f"published {theirs:g}", (1, theirs), (0, 2), **right, **looks)
        labels = [f"{box.n_samples:,}" for box in each]
        ax.set_xticks(list(at), labels, rotation=45, ha="right", fontsize=7.5)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("samples", fontsize=8.5)
        ax.grid(axis="y", alpha=0.25)
        ax.tick_params(axis="y", labelsize=8)
    axes[0].set_ylim(0, None)
    axes[0].set_ylabel("MMCS with the true features")
    note = ""
    if any(box.unconverged for each in panels.values() for box in each):
        note = "\n* so many fits had not converged when they stopped"
    fig.suptitle(title + note, fontsize=10.5)
    return fig


def representedness(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, n_bins: int = 10
) -> Figure:
    """How well each true feature is represented, against how often it is active.

    Args:
        panels: what found the features -> firing probabilities [n_features] and best cosines
            [seeds, n_features]; a dot for each feature and seed, a line for the median of each
            tenth.
        title: of the figure.
        n_bins: into how many parts of equal size the features are divided for the line.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    fig = Figure(figsize=(3.3 * columns + 0.4, 2.6 * rows + 0.7), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.ravel()[len(panels) :]:
        ax.set_axis_off()
    for ax, (name, (p, cosine)) in zip(axes.ravel(), panels.items(), strict=False):
        for values in cosine:
            ax.plot(p, values, ".", ms=3, color="#2166ac", alpha=0.3)
        parts = np.array_split(np.argsort(p, kind="stable"), min(n_bins, len(p)))
        known = np.isfinite(cosine)
        middle = [
            np.nanmedian(cosine[:, part]) if known[:, part].any() else np.nan for part in parts
        ]
        ax.plot([np.median(p[part]) for part in parts], middle, color="#d7301f", lw=1.6)
        words = f" (mean {np.nanmean(cosine):.2f})" if known.any() else ": every fit failed"
        ax.set_title(f"{name}{words}", fontsize=9.5)
        ax.grid(alpha=0.25)
        if np.ptp(p) > 0:
            ax.set_xscale("log")
            ax.set_xticks(np.geomspace(p.min(), p.max(), 4))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
            ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylim(0, 1.02)
    for ax in axes[:, 0]:
        ax.set_ylabel("best cosine", fontsize=9)
    for ax in axes.ravel()[max(0, len(panels) - columns) : len(panels)]:
        ax.set_xlabel("firing probability", fontsize=9)
        ax.tick_params(labelbottom=True)
    fig.suptitle(f"{title}\ndots: true features, line: median of each tenth of them", fontsize=10.5)
    return fig


def maps(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], n_features: int, title: str
) -> Figure:
    """Two-dimensional maps of samples, coloured by the feature that is strongest in each.

    Args:
        panels: row -> column -> places [n, 2] and the strongest feature of each sample [n], -1
            where no feature is active.
        n_features: how many there are; feature 0 is the most common one.
        title: of the figure.
    """
    columns = max(len(row) for row in panels.values())
    fig = Figure(figsize=(3.5 * columns + 0.9, 3.5 * len(panels) + 0.6), layout="constrained")
    axes = fig.subplots(len(panels), columns, squeeze=False)
    norm: Normalize = LogNorm(1, max(2, n_features))
    dots, looks = None, {"s": 4, "cmap": colormaps["turbo"], "norm": norm, "lw": 0}
    for line, (row_name, row) in zip(axes, panels.items(), strict=True):
        for ax, (name, (places, strongest)) in zip(line, row.items(), strict=False):
            empty = strongest < 0
            ax.scatter(*places[empty].T, s=3, color="0.8", lw=0)
            dots = ax.scatter(*places[~empty].T, c=strongest[~empty] + 1, **looks)
            ax.set_title(f"{row_name}, {name}", fontsize=9.5)
            ax.set_xticks([])
            ax.set_yticks([])
    if dots is not None:
        label = "strongest feature of the sample (1 = most common); grey: none is active"
        fig.colorbar(dots, ax=list(axes.ravel()), shrink=0.7, label=label)
    fig.suptitle(title, fontsize=10.5)
    return fig
