"""Heat maps, curves and frontiers of a sweep: arrays in, matplotlib Figures out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize, SymLogNorm

from saejax.metrics.catalogue import described
from saejax.results.plots.figure import Figure

# What the columns of a heat map are called.
COLUMNS = {"l1": "L1 coefficient", "k": "k: active latents of a sample"}


def called(axis: str) -> str:
    """What l1 or k is called in a sentence."""
    return {"l1": "L1"}.get(axis, axis)


def title_of(metric: str) -> str:
    """Name of a metric in a picture."""
    return described(metric).title


def _norm(values: np.ndarray, scale: str) -> Normalize:
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if finite.size == 0 or scale == "share":
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    if scale == "count":
        return SymLogNorm(linthresh=1, vmin=0, vmax=max(high, 1))
    if scale == "log" and positive.size and high > positive.min():
        return LogNorm(float(positive.min()), high, clip=True)  # 0 has the smallest one's colour
    return Normalize(min(low, 0), high if high > low else low + 1)


def heatmaps(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ratios: Sequence[float],
    l1: Sequence[float],
    metric: str,
    n_seeds: int = 1,
    words: str = "",
    axis: str = "l1",
) -> Figure:
    """Heat maps of a metric over ratio (down) and l1 or k (to the right), side by side.

    Args:
        panels: title -> mean and spread over seeds, both [ratio, l1]; NaN cells stay grey. All have
            one scale of colours.
        ratios: labels of the rows.
        l1: labels of the columns, which are values of `axis`.
        metric: sets title, colours and number format.
        n_seeds: how many seeds the means are over; from 2 on the spread stands in the cells.
        words: which cells these are, for the heading.
        axis: "l1", or "k" for architectures that set the number of active latents.
    """
    row = described(metric)
    name_of_map = "magma_r" if row.larger_is_better is False else "viridis"
    cmap = colormaps[name_of_map].with_extremes(bad="0.88")
    norm = _norm(np.concatenate([mean.ravel() for mean, _ in panels.values()]), row.scale)
    width = max(3.6, 0.72 * len(l1) + 1.2)
    height = max(3.0, 0.46 * len(ratios) + 1.5)
    fig = Figure(figsize=(width * len(panels) + 0.9, height), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    image = None
    for ax, (name, (mean, spread)) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(np.ma.masked_invalid(mean), cmap=cmap, norm=norm, aspect="auto")
        ax.set_title(name, fontsize=10)
        ax.set_xticks(range(len(l1)), [_value(axis, v) for v in l1])
        ax.set_yticks(range(len(ratios)), [f"{v:g}" for v in ratios])
        ax.set_xlabel(COLUMNS[axis])
        for i, j in np.ndindex(mean.shape):
            if not np.isfinite(mean[i, j]):
                continue
            text = format(mean[i, j], row.digits) if mean[i, j] else "0"
            if n_seeds > 1 and np.isfinite(spread[i, j]):
                text += f"\n±{format(spread[i, j], row.digits)}"
            red, green, blue, _ = cmap(norm(mean[i, j]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            size, colour = 7 if n_seeds > 1 else 8, "white" if dark else "black"
            ax.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    axes[0].set_ylabel("dictionary ratio")
    if image is not None:
        fig.colorbar(image, ax=list(axes), shrink=0.9)
    seeds = f"; mean ± sd over {n_seeds} seeds" if n_seeds > 1 else ""
    title = f"{row.title} ({words})" if words else row.title
    fig.suptitle(f"{title}\n{row.note}{seeds}", fontsize=10.5)
    return fig


def _value(axis: str, value: float) -> str:
    """A value of l1 or k as a label."""
    return f"{value:.2g}" if axis == "l1" else f"{value:g}"


def beside_published(
    ours: np.ndarray,
    theirs: np.ndarray,
    ratios: Sequence[float],
    l1: Sequence[float],
    metric: str,
    correlation: float,
) -> Figure:
    """Our heat map beside the published one, on one colour scale.

    Args:
        ours: [ratio, l1].
        theirs: likewise.
        ratios: as in `heatmaps`.
        l1: likewise.
        metric: likewise.
        correlation: Spearman's, shown in the heading of our panel.
    """
    none = np.full_like(ours, np.nan)
    panels = {
        f"this run (Spearman {correlation:.2f})": (ours, none),
        f"published{', clipped at 100' if metric == 'dead_latents' else ''}": (theirs, none),
    }
    return heatmaps(panels, ratios, l1, metric)


def curves(
    steps: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    ratios: Sequence[float],
    l1: Sequence[float],
    title: str,
    ylabel: str,
    n_seeds: int = 1,
    axis: str = "l1",
) -> Figure:
    """A measurement over training: a panel for each ratio, a line for each l1.

    Args:
        steps: [n_eval].
        mean: [n_eval, ratio, l1], over seeds.
        spread: likewise its standard deviation, drawn as a band; NaN draws none.
        ratios: a panel each.
        l1: a line each, values of `axis`.
        title: of the figure.
        ylabel: what is measured, with its unit.
        n_seeds: how many seeds the mean is over.
        axis: "l1" or "k".
    """
    columns = min(4, len(ratios))
    rows = -(-len(ratios) // columns)
    fig = Figure(figsize=(2.7 * columns + 1.2, 2.2 * rows + 0.9), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colours = colormaps["plasma"](np.linspace(0, 0.88, len(l1)))
    marker = "o" if len(steps) == 1 else None
    for panel, ax in enumerate(axes.ravel()):
        if panel >= len(ratios):
            ax.set_axis_off()
            continue
        for j, colour in enumerate(colours):
            y, sd = mean[:, panel, j], spread[:, panel, j]
            ax.plot(steps, y, color=colour, lw=1.4, marker=marker, label=_value(axis, l1[j]))
            if np.isfinite(sd).any():
                ax.fill_between(steps, y - sd, y + sd, color=colour, alpha=0.15, lw=0)
        ax.set_title(f"ratio {ratios[panel]:g}", fontsize=9)
        ax.grid(alpha=0.25)
        if panel % columns == 0:
            ax.set_ylabel(ylabel, fontsize=8.5)
        if panel >= len(ratios) - columns:
            ax.set_xlabel("training step", fontsize=8.5)
            ax.tick_params(labelbottom=True)
        ax.tick_params(labelsize=7.5)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, title=called(axis), loc="outside right center", fontsize=8)
    seeds = f" (mean ± sd over {n_seeds} seeds)" if n_seeds > 1 else ""
    fig.suptitle(title + seeds, fontsize=11)
    return fig


def frontier(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ratios: Sequence[float],
    l1: Sequence[float],
    axis: str = "l1",
) -> Figure:
    """The trade between sparsity and reconstruction: L0 against fvu, a line for each ratio.

    Args:
        panels: title -> l0 and fvu, both [ratio, l1].
        ratios: one line each.
        l1: one point each; larger points have the larger coefficient.
        axis: what these are, "l1" or "k".
    """
    fig = Figure(figsize=(4.8 * len(panels) + 1.2, 4.2), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    colours = colormaps["viridis"](np.linspace(0, 0.95, len(ratios)))
    sizes = np.linspace(12, 70, len(l1))
    values = [np.concatenate([pair[i].ravel() for pair in panels.values()]) for i in (0, 1)]
    has_logs = [np.isfinite(v).any() and np.nanmin(v) > 0 for v in values]
    for ax, (name, (l0, fvu)) in zip(axes, panels.items(), strict=True):
        for i, colour in enumerate(colours):
            ax.plot(l0[i], fvu[i], color=colour, lw=1.2, label=f"{ratios[i]:g}")
            ax.scatter(
                l0[i], fvu[i], s=sizes, color=colour, edgecolor="white", linewidth=0.5, zorder=3
            )
        ax.set_xscale("log" if has_logs[0] else "symlog")
        ax.set_yscale("log" if has_logs[1] else "linear")
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("L0: active latents in a sample")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("fraction of variance unexplained")
    axes[0].tick_params(labelleft=True)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, title="ratio", loc="outside right center", fontsize=8)
    title = "Sparsity against reconstruction: lower left is better; larger dots, larger "
    fig.suptitle(title + called(axis), fontsize=11)
    return fig
