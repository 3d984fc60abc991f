"""Pictures of how latents respond to single tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize

from saejax.experiments.common.figures import annotated
from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import Intervals


def responses(
    panels: Mapping[str, np.ndarray], names: Sequence[Sequence[str]], labels: Sequence[str]
) -> Figure:
    """Heat maps of tokens (down) by latents (to the right), two side by side.

    Colours are shares of each latent's largest activation, because a free decoder leaves the scale
    of a latent open; that largest activation stands under the latent's number.

    Args:
        panels: title -> activations [tokens, latents] of live latents, at least one each.
        names: for each panel the names of its latents.
        labels: names of the tokens.
    """
    columns, n = min(2, len(panels)), len(labels)
    rows = -(-len(panels) // columns)
    widest = max(h.shape[1] for h in panels.values())
    size = max(5.0, 0.42 * widest + 1.6) * columns + 0.8, (0.25 * n + 1.1) * rows + 0.4
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False)
    image = None
    for ax in axes.ravel()[len(panels) :]:
        ax.set_axis_off()
    for ax, (title, h), latents in zip(axes.ravel(), panels.items(), names, strict=False):
        largest, looks = h.max(0), {"cmap": colormaps["Greens"], "norm": Normalize(0, 1)}
        image = ax.imshow(h / largest, aspect="auto", **looks)
        ax.set_title(title, fontsize=9.5, loc="left")
        ax.set_yticks(range(n), labels, fontsize=8)
        under = [f"{name}\n{high:.2g}" for name, high in zip(latents, largest, strict=True)]
        ax.set_xticks(range(h.shape[1]), under, fontsize=7)
        ax.set_xticks(np.arange(-0.5, h.shape[1]), minor=True)
        ax.set_yticks(np.arange(-0.5, n), minor=True)
        ax.grid(which="minor", color="0.85", lw=0.8)
        ax.tick_params(which="minor", length=0)
    for ax in axes[-1]:
        ax.set_xlabel("latent, and its largest activation", fontsize=8.5)
    if image is not None:
        label = "share of the latent's largest activation"
        fig.colorbar(image, ax=list(axes.ravel()), label=label, shrink=min(1.0, 2 / rows))
    return fig


def own_rates(rates: Intervals, groups: Sequence[str], l1: Sequence[float], n_seeds: int) -> Figure:
    """Heat map of the share of seeds in which a group gets a latent of its own, with intervals.

    Args:
        rates: [groups, l1] each.
        groups: names of the rows.
        l1: labels of the columns.
        n_seeds: how many seeds.
    """
    size = max(5.0, 1.0 * len(l1) + 2.4), max(2.6, 0.52 * len(groups) + 1.5)
    fig = Figure(figsize=size, layout="constrained")
    ax = fig.subplots()
    share, low, high = (100 * part for part in rates)
    texts = [[f"{value:.0f} %" for value in row] for row in share]
    for i, j in np.ndindex(share.shape):
        if n_seeds > 1:
            texts[i][j] += f"\n({low[i, j]:.0f} to {high[i, j]:.0f})"
    image = annotated(ax, rates.value, texts, colormaps["viridis"], Normalize(0, 1))
    ax.set_xticks(range(len(l1)), [f"{v:.2g}" for v in l1])
    ax.set_yticks(range(len(groups)), groups)
    ax.set_xlabel("L1 coefficient")
    fig.colorbar(image, label="share of seeds")
    seeds = f"{n_seeds} seeds{'; brackets: 95 % interval' if n_seeds > 1 else ''}"
    fig.suptitle(f"How often a group of tokens gets a latent of its own ({seeds})", fontsize=10.5)
    return fig


def against_l1(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], l1: Sequence[float]) -> Figure:
    """Measurements against the L1 coefficient, side by side.

    Args:
        panels: y label -> mean and standard deviation over seeds, both [l1].
        l1: coefficients; 0 has no place on the logarithmic axis and stands at its left end.
    """
    fig = Figure(figsize=(3.1 * len(panels), 2.9), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    x = np.asarray(l1, float)
    order, positive = np.argsort(x), x[x > 0]
    for ax, (name, (mean, spread)) in zip(axes, panels.items(), strict=True):
        bars = np.where(np.isfinite(spread), spread, 0)
        line = x[order], mean[order], bars[order]
        ax.errorbar(*line, marker="o", ms=4, capsize=2.5, color="#2166ac")
        if positive.size > 1 and (x == 0).any():
            ax.set_xscale("symlog", linthresh=positive.min())
        elif positive.size > 1:
            ax.set_xscale("log")
        ax.set(xlabel="L1 coefficient", ylabel=name)
        low = mean - bars
        ax.set_ylim(bottom=float(np.min(low, initial=0, where=np.isfinite(low))))
        ax.grid(alpha=0.25)
    return fig
