"""Pictures of maximum cosine similarities (MCS): distributions, scatter plots, counts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps

from saejax.core.stats import mean_and_spread
from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import Intervals, at_sizes, dots, grid, nothing

HIGH, LOW, RANDOM, LAW = "#2166ac", "#e08214", "0.45", "#d7301f"
BIN, FINE_BIN = 0.02, 0.01


class Histogram(NamedTuple):
    """MCS of the latents of dictionaries of one size.

    Attributes:
        title: of the panel.
        mcs: [draws, latents]; a draw is a seed, or a pair of seeds.
        peaks: for each draw [modes, 3]: place, lower and upper end of its interval; empty for none.
    """

    title: str
    mcs: np.ndarray
    peaks: Sequence[np.ndarray] = ()


class BelowCutoff(NamedTuple):
    """Learned and random MCS of one size below the cutoff, and the law of random ones.

    Attributes:
        title: of the panel.
        learned: [seeds, latents]; NaN where an MCS is not below the cutoff, and so are the next.
        random: [seeds, vectors].
        x: [points], cosines.
        density: [points], of the law at x, per unit of cosine.
    """

    title: str
    learned: np.ndarray
    random: np.ndarray
    x: np.ndarray
    density: np.ndarray


class Scatter(NamedTuple):
    """MCS of the latents of one size against two larger dictionaries.

    Attributes:
        title: of the panel.
        x: [seeds, latents], against the first.
        y: likewise, against the second.
        larger: sizes of the two.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    larger: tuple[int, int]


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts [draws, bins] of [draws, n]; NaN is in no bin."""
    return np.stack([np.histogram(row[np.isfinite(row)], edges)[0] for row in values]).astype(float)


def _bars(ax: Any, counts: np.ndarray, edges: np.ndarray, colour: str, label: str) -> None:
    """Bars of mean counts, with the standard deviation over draws where there are several."""
    mean, spread = mean_and_spread(counts)
    ax.bar(edges[:-1], mean, np.diff(edges), align="edge", color=colour, label=label)
    if len(counts) > 1:
        kept, middle = mean > 0, (edges[:-1] + edges[1:]) / 2
        looks = {"fmt": "none", "ecolor": "0.2", "elinewidth": 0.7}
        ax.errorbar(middle[kept], mean[kept], spread[kept], **looks)


def _finish(axes: Sequence[Any], panels: Sequence[Any], xlabel: str, ylabel: str) -> None:
    """Titles and labels of panels, where the y axis is named on the left of each row."""
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(panel.title, fontsize=9)
        ax.set_xlabel(xlabel, fontsize=8.5)
        ax.tick_params(labelsize=8)
    for ax in axes[::3]:
        ax.set_ylabel(ylabel, fontsize=8.5)


def histograms(
    panels: Sequence[Histogram], cutoff: float, title: str, draws: str = "seeds"
) -> Figure:
    """Distributions of MCS, a panel for each size, with the peaks that were found in each draw.

    Bars are means over draws and lines their standard deviation. Peaks stand above the bars, a line
    of dots for each draw from the first on top downwards, with their intervals.

    Args:
        panels: in the order of size.
        cutoff: between low and high MCS.
        title: of the figure.
        draws: what they are, for the heading.
    """
    fig, axes = grid(len(panels), 3, 3.9, 2.9, sharex=True)
    lowest = min(0.0, *(float(panel.mcs.min(initial=0.0)) for panel in panels))
    edges = BIN * np.arange(np.floor(lowest / BIN), round(1 / BIN) + 1)
    for ax, panel in zip(axes, panels, strict=True):
        _bars(ax, _counts(panel.mcs, edges), edges, "#92c5de", "latents")
        ax.axvline(cutoff, color="0.5", ls=":", lw=1)
        ax.set_ylim(0, ax.get_ylim()[1] * (1.3 if len(panel.peaks) else 1.05))
        step = min(0.05, 0.2 / max(1, len(panel.peaks)))
        across = ax.get_xaxis_transform()
        for i, peaks in enumerate(panel.peaks):
            for place, low, high in np.reshape(peaks, (-1, 3)):
                y = 0.96 - i * step
                ax.plot([low, high], [y, y], "|-", color=LAW, lw=1.2, ms=5, transform=across)
                ax.plot([place], [y], "o", color=LAW, ms=3.5, transform=across)
    axes[0].set_xlim(edges[0], 1.03)
    _finish(axes, panels, "MCS (cosine)", f"latents per {BIN:g} of cosine")
    n = max(len(panel.mcs) for panel in panels)
    notes = [f"bars: mean of {n} {draws}, lines: ± sd" if n > 1 else ""]
    if any(len(panel.peaks) for panel in panels):
        notes.append("red: peaks found, with intervals" + (", a row a seed" if n > 1 else ""))
    notes.append(f"dotted: cutoff {cutoff:g}")
    fig.suptitle(f"{title}\n{'; '.join(filter(None, notes))}", fontsize=10.5)
    return fig


def below_cutoff(panels: Sequence[BelowCutoff], cutoff: float, title: str) -> Figure:
    """Low MCS of learned dictionaries beside those of random ones, a panel for each size.

    The learned ones lose latents to the cutoff and the random ones next to none. To compare shapes,
    the random counts and the law are scaled to as many values as there are learned ones.

    Args:
        panels: in the order of size.
        cutoff: right end of the axis.
        title: of the figure.
    """
    fig, axes = grid(len(panels), 3, 3.9, 2.9, sharex=True)
    finite = [x[np.isfinite(x)] for panel in panels for x in (panel.learned, panel.random)]
    least = min((float(x.min()) for x in finite if x.size), default=cutoff - 0.1)
    n_bins = max(1, int(np.ceil((cutoff - least) / FINE_BIN - 1e-6)))
    edges = cutoff - FINE_BIN * np.arange(n_bins, -1, -1)
    for ax, panel in zip(axes, panels, strict=True):
        learned, random = _counts(panel.learned, edges), _counts(panel.random, edges)
        n_low, n_random = learned.sum(1), random.sum(1)
        if n_low.any():
            _bars(ax, learned, edges, "#92c5de", "learned")
            scale = np.divide(n_low, n_random, out=np.zeros_like(n_low), where=n_random > 0)
            mean, spread = mean_and_spread(random * scale[:, None])
            ax.stairs(mean, edges, color=RANDOM, lw=1.3, label="random, scaled")
            if len(random) > 1:
                band = {"baseline": mean - spread, "fill": True, "color": RANDOM, "alpha": 0.2}
                ax.stairs(mean + spread, edges, **band)
            height = panel.density * n_low.mean() * FINE_BIN
            ax.plot(panel.x, height, color=LAW, lw=1.3, label="law of random ones, scaled")
            ax.set_ylim(0)
        else:
            nothing(ax, "no latent is below the cutoff")
    axes[0].set_xlim(edges[0], cutoff)
    axis = f"MCS (cosine), below {cutoff:g}"
    _finish(axes, panels, axis, f"latents per {FINE_BIN:g} of cosine")
    for ax in axes:
        if ax.patches:
            handles, labels = ax.get_legend_handles_labels()
            fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8.5)
            break
    seeds = f"\nmean ± sd over {len(panels[0].learned)} seeds" if len(panels[0].learned) > 1 else ""
    fig.suptitle(f"{title}{seeds}", fontsize=10.5)
    return fig


def scatters(panels: Sequence[Scatter], title: str) -> Figure:
    """MCS of every latent against two larger dictionaries, a colour for each seed.

    Args:
        panels: in the order of size.
        title: of the figure.
    """
    fig, axes = grid(len(panels), 3, 3.5, 3.4, sharex=True, sharey=True)
    lowest = min(0.0, *(float(x.min(initial=0.0)) for panel in panels for x in (panel.x, panel.y)))
    n_seeds = len(panels[0].x)
    colours = colormaps["viridis"](np.linspace(0.2, 0.8, n_seeds)) if n_seeds > 1 else [HIGH]
    for ax, panel in zip(axes, panels, strict=True):
        ax.plot([lowest, 1], [lowest, 1], color="0.8", lw=0.8, zorder=0)
        for x, y, colour in zip(panel.x, panel.y, colours, strict=True):
            ax.plot(x, y, ".", ms=3, color=colour, alpha=0.5, mew=0)
        ax.set_title(panel.title, fontsize=9)
        ax.set_xlabel(f"MCS against {panel.larger[0]:,} latents", fontsize=8.5)
        ax.set_ylabel(f"MCS against {panel.larger[1]:,} latents", fontsize=8.5)
        ax.tick_params(labelsize=8)
    axes[0].set(xlim=(lowest - 0.02, 1.03), ylim=(lowest - 0.02, 1.03))
    seeds = f", a colour for each of {n_seeds} seeds" if n_seeds > 1 else ""
    fig.suptitle(f"{title}\na dot a latent{seeds}", fontsize=10.5)
    return fig


def high_and_low(high: np.ndarray, share: Intervals, sizes: Sequence[int], title: str) -> Figure:
    """How many latents have high and low MCS, as counts and as shares, with single seeds as dots.

    Args:
        high: [seeds, sizes], number of latents with high MCS.
        share: of them among all latents, from 0 to 1; the share of low MCS is 1 minus it.
        sizes: d_sae.
        title: of the figure.
    """
    fig = Figure(figsize=(max(7.0, 1.3 * len(sizes) + 4.5), 3.6), layout="constrained")
    axes = fig.subplots(1, 2)
    centre, _ = (at_sizes(ax, sizes) for ax in axes)
    n_seeds, width = len(high), 0.4
    low = np.array(sizes) - high
    opposite = Intervals(1 - share.value, 1 - share.high, 1 - share.low)
    sides = (("high MCS", HIGH, high, share), ("low MCS", LOW, low, opposite))
    for k, (name, colour, count, shares) in enumerate(sides):
        x = centre + (k - 0.5) * width
        percent = Intervals(*(100 * part for part in shares))
        for ax, numbers in zip(axes, (Intervals(count, count, count), percent), strict=True):
            mean, spread = mean_and_spread(numbers.value)
            ax.bar(x, mean, width * 0.95, color=colour, alpha=0.5, label=name)
            if n_seeds > 1:
                ax.errorbar(x, mean, spread, fmt="none", ecolor="0.15", elinewidth=1, capsize=3)
            dots(ax, x, numbers, colour, 0.6 * width)
    axes[0].set_ylabel("latents")
    axes[1].set_ylabel("share of the latents, %")
    axes[1].set_ylim(0, 102)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8.5)
    bars = f"bars: mean ± sd over {n_seeds} seeds, dots: seeds" if n_seeds > 1 else "dots: one seed"
    fig.suptitle(f"{title}\n{bars}, right with intervals", fontsize=10.5)
    return fig
