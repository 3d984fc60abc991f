"""Architectures side by side: what each reaches at the same sparsity."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps

from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import logarithmic
from saejax.results.plots.sweep import title_of

MARKERS = "osD^vPX*"


class Line(NamedTuple):
    """One architecture: mean and spread over seeds at every L1 or k, all [n].

    Attributes:
        l0: mean number of active latents.
        mean: of the metric.
        spread: its standard deviation; NaN for one seed.
    """

    l0: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


def at_sparsity(
    panels: Mapping[str, Mapping[str, Mapping[str, Line]]],
    l0: Mapping[str, float] | None = None,
    n_seeds: int = 1,
    words: str = "",
) -> Figure:
    """Metrics against L0, a line for every architecture; a row of panels for each data set.

    Args:
        panels: data set -> metric -> architecture -> its line.
        l0: data set -> mean number of features that are active in a sample, drawn as a dotted line.
        n_seeds: how many seeds the means are over; from 2 on a bar shows the spread.
        words: which cells these are, for the heading.
    """
    columns = max(len(metrics) for metrics in panels.values())
    fig = Figure(figsize=(3.5 * columns + 1.7, 3.1 * len(panels) + 0.7), layout="constrained")
    axes = fig.subplots(len(panels), columns, squeeze=False)
    names = list(dict.fromkeys(n for ms in panels.values() for lines in ms.values() for n in lines))
    # "tab10" without its grey; colour and marker say the same, for readers who see few colours.
    colours = [colormaps["tab10"](i) for i in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    for row, (dataset, metrics) in zip(axes, panels.items(), strict=True):
        for ax, (metric, lines) in zip(row, metrics.items(), strict=False):
            for name, line in lines.items():
                i = names.index(name)
                order = np.argsort(line.l0)
                bars = line.spread[order] if n_seeds > 1 else None
                look = {"color": colours[i % len(colours)], "marker": MARKERS[i % len(MARKERS)]}
                x, y = line.l0[order], line.mean[order]
                ax.errorbar(x, y, bars, label=name, capsize=2, lw=1.4, ms=5, **look)
            if l0 is not None and dataset in l0:
                ax.axvline(l0[dataset], color="0.4", ls=":", lw=1)
            logarithmic(ax, "x")
            of = f", {dataset}" if len(panels) > 1 else ""
            ax.set_title(title_of(metric) + of, fontsize=9)
            ax.set_xlabel("L0: active latents in a sample", fontsize=8.5)
            ax.tick_params(labelsize=7.5)
            ax.grid(alpha=0.25, which="both")
    found: dict[str, Any] = {}
    for ax in axes.ravel():
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    fig.legend(
        list(found.values()),
        list(found),
        title="architecture",
        loc="outside right center",
        fontsize=8,
    )
    seeds = f"; bars: ± sd over {n_seeds} seeds" if n_seeds > 1 else ""
    dotted = "; dotted: true features in a sample" if l0 else ""
    fig.suptitle(f"Architectures at the same sparsity{words}{dotted}{seeds}", fontsize=10.5)
    return fig
