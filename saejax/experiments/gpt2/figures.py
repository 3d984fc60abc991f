"""Pictures of the GPT-2 study: dead latents, monosemanticity, what labelled latents have in
common."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from saejax.core.stats import mean_and_spread
from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import grid

COLOURS = ("0.35", "tab:blue", "tab:orange", "tab:green")


def over_expansions(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    expansions: Sequence[float],
    ylabel: str,
    published: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A measurement over the expansion factor: a panel for each l1, a line for each way to revive.

    Args:
        panels: title -> way -> [seeds, expansions]; dots are seeds, lines their means.
        expansions: labels of the x axis.
        ylabel: what is measured, with its unit.
        published: likewise the text's numbers, dashed; panels and ways may be missing.
        limits: of the y axis.
    """
    fig, axes = grid(len(panels), 4, 4.2, 3.3, sharey=True)
    at = np.arange(len(expansions))
    for ax, (title, ways) in zip(axes, panels.items(), strict=True):
        known = (published or {}).get(title, {})
        for i, (way, values) in enumerate(ways.items()):
            colour = COLOURS[i % len(COLOURS)]
            shift = 0.06 * (i - (len(ways) - 1) / 2)
            ax.plot(at + shift, mean_and_spread(values)[0], color=colour, lw=1.6, label=way)
            for own in values:
                ax.plot(at + shift, own, "o", color=colour, ms=3, alpha=0.6)
            if way in known:
                ax.plot(
                    at, known[way], "--", color=colour, lw=1.2, label=f"{way}, published (GPT-2)"
                )
        ax.set_title(title, fontsize=10)
        ax.set_xticks(at, [f"{v:g}x" for v in expansions])
        ax.set_xlabel("expansion factor, d_sae / d_in")
        ax.grid(alpha=0.25)
        if limits:
            ax.set_ylim(*limits)
        ax.legend(fontsize=8, title="reviving dead latents", title_fontsize=8)
    axes[0].set_ylabel(ylabel)
    return fig


def over_training(
    steps: np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]], ylabel: str, every: int
) -> Figure:
    """A measurement over training: a panel for each dictionary, a line for each way to revive.

    Args:
        steps: [n_eval].
        panels: title -> way -> [n_eval, seeds]; the lines are means.
        ylabel: what is measured, with its unit.
        every: steps between two resamplings, marked by thin lines; 0 for none.
    """
    fig, axes = grid(len(panels), 4, 3.4, 2.8, sharey=True)
    for ax, (title, ways) in zip(axes, panels.items(), strict=True):
        if every:
            for step in range(every, int(steps[-1]), every):
                ax.axvline(step, color="0.85", lw=1, zorder=0)
        for i, (way, values) in enumerate(ways.items()):
            colour = COLOURS[i % len(COLOURS)]
            mean, spread = mean_and_spread(values.T)
            ax.plot(steps, mean, color=colour, lw=1.4, label=way)
            if np.isfinite(spread).any():
                ax.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("training step", fontsize=8.5)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.2)
    axes[0].set_ylabel(ylabel)
    handles, names = axes[0].get_legend_handles_labels()
    fig.legend(handles, names, title="reviving", loc="outside right center", fontsize=8)
    return fig


def cluster_order(correlation: np.ndarray) -> np.ndarray:
    """Order of latents in which correlated ones stand together: leaves of an average-linkage tree.

    The distance of two latents is 1 less their correlation; the order is the one that puts
    neighbours closest.

    Args:
        correlation: [n, n].
    """
    n = len(correlation)
    if n < 3:
        return np.arange(n)
    distance = np.clip(1 - (correlation + correlation.T) / 2, 0, 2)
    np.fill_diagonal(distance, 0)
    flat = squareform(distance, checks=False)
    tree = hierarchy.linkage(flat, "average", optimal_ordering=True)
    return hierarchy.leaves_list(tree)


def correlation_map(
    correlation: np.ndarray, names: Sequence[str], top: Sequence[bool], title: str
) -> Figure:
    """Correlations of the activations of labelled latents, clustered.

    Args:
        correlation: [n, n].
        names: of the latents.
        top: which of them are of high selectivity; their names are blue, the others' orange.
        title: of the figure.
    """
    order = cluster_order(correlation)
    n = len(order)
    size = max(5.0, 0.155 * n + 3.0)
    fig = Figure(figsize=(size + 1.2, 0.8 * size), layout="constrained")
    ax = fig.subplots()
    shown = correlation[np.ix_(order, order)]
    off = shown[~np.eye(n, dtype=bool)]
    # The diagonal is 1; the colours are for the rest.
    high = max(0.05, float(np.abs(off).max())) if off.size else 1.0
    image = ax.imshow(shown, cmap=colormaps["RdBu_r"], vmin=-high, vmax=high)
    ax.set_xticks([])
    # Text of a corpus may hold a $, which begins a formula.
    shown_names = [str(names[i]).replace("$", r"\$") for i in order]
    ax.set_yticks(range(n), shown_names, fontsize=6.5)
    for tick, i in zip(ax.get_yticklabels(), order, strict=True):
        tick.set_color("tab:blue" if top[i] else "tab:orange")
    fig.colorbar(image, ax=ax, shrink=0.7, label="correlation of activations (the diagonal is 1)")
    ax.set_title(f"{title}\nnames: high selectivity blue, low orange", fontsize=9.5)
    return fig
