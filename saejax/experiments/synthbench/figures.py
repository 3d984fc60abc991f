"""Architectures during training, side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from saejax.results.plots.panels import grid


class Courses(NamedTuple):
    """What the SAEs of one architecture have at every evaluation.

    Attributes:
        labels: one for each sparsity.
        mean: [n_eval, sparsity], over seeds.
        spread: likewise its standard deviation; NaN for one seed.
    """

    labels: Sequence[str]
    mean: np.ndarray
    spread: np.ndarray


def by_architecture(
    steps: np.ndarray, panels: Mapping[str, Courses], ylabel: str, n_seeds: int = 1
) -> Figure:
    """A measurement over training: a panel for each architecture, a line for each sparsity.

    Args:
        steps: [n_eval].
        panels: architecture -> its lines.
        ylabel: what is measured.
        n_seeds: how many seeds the means are over; from 2 on a band shows the spread.
    """
    fig, axes = grid(len(panels), 3, 3.9, 2.7, sharex=True, sharey=True)
    for ax, (name, own) in zip(axes, panels.items(), strict=True):
        colours = colormaps["plasma"](np.linspace(0, 0.85, len(own.labels)))
        for j, label in enumerate(own.labels):
            marker = "o" if len(steps) == 1 else None
            ax.plot(steps, own.mean[:, j], color=colours[j], lw=1.4, marker=marker, label=label)
            if n_seeds > 1:
                low, high = (own.mean[:, j] + sign * own.spread[:, j] for sign in (-1, 1))
                ax.fill_between(steps, low, high, color=colours[j], alpha=0.15, lw=0)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("training step", fontsize=8.5)
        ax.set_ylabel(ylabel, fontsize=8.5)
        ax.tick_params(labelsize=7.5)
        ax.grid(alpha=0.25)
        ax.legend(fontsize=7.5, framealpha=0.6)
    bands = f" (bands: ± sd over {n_seeds} seeds)" if n_seeds > 1 else ""
    fig.suptitle(f"{ylabel} during training{bands}", fontsize=11)
    return fig
