"""Pictures of what low-MCS latents are: when they fire, what ablating them does, their classes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from saejax.core.stats import mean_and_spread
from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import grid, logarithmic

COLOURS = {"dead": "0.72", "noise": "#fdb863", "real": "#1a9641", "idle": "#92c5de"}
SHOWN = (0.01, 1000.0)
ABOVE, BELOW, UNMEASURED, DEAD = "#1a9641", "#d7301f", "0.65", "0.3"
HIGH, LOW = "#2166ac", "#e08214"
FLIERS = {"marker": ".", "ms": 3, "mec": "none", "mfc": "0.4", "alpha": 0.5}


class Firing(NamedTuple):
    """How often the latents of one size fire, and what they are worth; [seeds, latents] each.

    Attributes:
        title: of the panel.
        mcs: against the largest dictionary.
        frequency: share of the evaluation tokens, 0 for dead latents.
        effect: of ablating the latent, in units of that of a random direction; NaN where it was not
            measured.
        effect_from: [seeds], the effect from which on a latent counts as real.
    """

    title: str
    mcs: np.ndarray
    frequency: np.ndarray
    effect: np.ndarray
    effect_from: np.ndarray


class Effects(NamedTuple):
    """Measured effects of the live latents of one size, in units of that of a random direction.

    Attributes:
        title: of the panel.
        groups: name -> effects of the latents, and of other random directions in the same units,
            both [n]; NaN is left out.
        effect_from: [seeds], the effect from which on a latent counts as real.
    """

    title: str
    groups: Mapping[str, tuple[np.ndarray, np.ndarray]]
    effect_from: np.ndarray


def firing(panels: Sequence[Firing], cutoff: float, rare_below: float) -> Figure:
    """MCS against firing frequency, coloured by effect; dead latents in a strip of their own.

    Args:
        panels: in the order of size; the latents of all seeds in one panel.
        cutoff: between low and high MCS.
        rare_below: frequency below which latents without an effect count as noise.
    """
    fig, axes = grid(len(panels), 3, 3.9, 3.1, 0.8, sharey=True)
    alive = [panel.frequency[panel.frequency > 0] for panel in panels]
    least = min((float(f.min()) for f in alive if f.size), default=0.1)
    first = np.floor(np.log10(min(least, rare_below, 0.1)))
    strip = first - 0.75
    ticks = np.arange(first, 1, max(1, round(-first / 4)))
    lowest = min(0.0, *(float(panel.mcs.min(initial=0.0)) for panel in panels))
    for ax, panel in zip(axes, panels, strict=True):
        dead = panel.frequency <= 0
        # Evenly spread over the strip, by the golden ratio.
        spread = (np.arange(dead.size).reshape(dead.shape) * 0.618) % 1 - 0.5
        x = np.where(dead, strip + 0.8 * spread, np.log10(np.where(dead, 1.0, panel.frequency)))
        limit = panel.effect_from[:, None]
        known = ~np.isnan(panel.effect) & ~np.isnan(limit) & ~dead
        above = known & (panel.effect >= limit)
        parts = (~known & ~dead, UNMEASURED), (dead, DEAD), (known & ~above, BELOW), (above, ABOVE)
        for where, colour in parts:
            ax.plot(x[where], panel.mcs[where], ".", ms=4, mew=0, color=colour, alpha=0.6)
        ax.axvspan(strip - 0.5, strip + 0.5, color="0.93", zorder=0)
        ax.axhline(cutoff, color="0.5", ls=":", lw=1)
        ax.axvline(np.log10(rare_below), color="0.5", ls="--", lw=1)
        ax.set_xticks([strip, *ticks], ["dead", *(f"$10^{{{int(t)}}}$" for t in ticks)])
        ax.set_xlim(strip - 0.5, 0.1)
        ax.set_title(panel.title, fontsize=9)
        ax.set_xlabel("share of tokens on which it is active", fontsize=8.5)
        ax.set_ylabel("MCS (cosine)", fontsize=8.5)
        ax.tick_params(labelsize=8)
    axes[0].set_ylim(lowest - 0.02, 1.04)
    names = {
        "effect at or above the limit": ABOVE,
        "effect below the limit": BELOW,
        "effect not measured": UNMEASURED,
        "dead": DEAD,
    }
    handles = [Line2D([], [], marker="o", ls="", ms=4, color=c, label=n) for n, c in names.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8.5)
    fig.suptitle(
        "How often latents are active, and how well the largest dictionary knows them\n"
        f"dotted: cutoff {cutoff:g}; dashed: rare below {rare_below:g}",
        fontsize=10.5,
    )
    return fig


def effects(panels: Sequence[Effects]) -> Figure:
    """What ablating a live latent does, beside what ablating random directions in its place does.

    Boxes hold the middle half, whiskers reach from the 5th to the 95th percentile, dots are the
    rest. What lies outside of `SHOWN` is drawn at its ends.

    Args:
        panels: in the order of size; the latents of all seeds in one panel.
    """
    fig, axes = grid(len(panels), 3, 3.7, 3.1, sharey=True)
    empty: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "ha": "center",
        "fontsize": 8,
        "color": "0.4",
    }
    looks: dict[str, Any] = {
        "widths": 0.6,
        "whis": (5, 95),
        "patch_artist": True,
        "flierprops": FLIERS,
    }
    looks |= {"medianprops": {"color": "black"}}
    for ax, panel in zip(axes, panels, strict=True):
        labels: list[str] = []
        for (name, pair), colour in zip(panel.groups.items(), (LOW, HIGH), strict=False):
            for what, effect, face in zip(
                ("latent", "random"), pair, (colour, "0.85"), strict=True
            ):
                effect = np.clip(effect[~np.isnan(effect)], *SHOWN)
                labels.append(f"{name}\n{what}")
                if effect.size:
                    box = {"facecolor": face, "alpha": 0.7}
                    ax.boxplot(effect, positions=[len(labels)], boxprops=box, **looks)
                else:
                    ax.annotate("none", (len(labels), 0.5), **empty)
        for limit in panel.effect_from[np.isfinite(panel.effect_from)]:
            ax.axhline(limit, color=ABOVE, ls="--", lw=1)
        ax.axhline(1, color="0.6", lw=0.7)
        ax.set_xticks(range(1, len(labels) + 1), labels, fontsize=7.5)
        ax.set_xlim(0.4, len(labels) + 0.6)
        ax.set_title(panel.title, fontsize=9)
        ax.set_ylabel("effect, random direction = 1", fontsize=8.5)
        ax.tick_params(axis="y", labelsize=8)
    for ax in axes:
        logarithmic(ax)
    seeds = ", one a seed" if any(len(panel.effect_from) > 1 for panel in panels) else ""
    fig.suptitle(
        "What ablating a live latent does, and ablating a random direction in its place\n"
        f"dashed: the limit from which on a latent counts as real{seeds}",
        fontsize=10.5,
    )
    return fig


def classes(shares: Mapping[str, np.ndarray], n: np.ndarray, sizes: Sequence[int]) -> Figure:
    """Stacked bars of what low-MCS and high-MCS latents are, means over seeds.

    Args:
        shares: class -> [seeds, sizes, sides] from 0 to 1, of the measured latents; sides are low
            and high MCS; NaN where none was measured.
        n: [seeds, sizes, sides], number of measured latents.
        sizes: d_sae.
    """
    n_seeds = len(n)
    fig = Figure(figsize=(max(6.0, 2.0 * len(sizes) + 1.8), 4.0), layout="constrained")
    ax: Any = fig.subplots()
    at = np.arange(len(sizes))[:, None] + 0.42 * np.array([-0.5, 0.5])
    bottom = np.zeros_like(at)
    for name, values in shares.items():
        mean, spread = mean_and_spread(100 * values)
        height = np.nan_to_num(mean)
        ax.bar(at.ravel(), height.ravel(), 0.38, bottom.ravel(), color=COLOURS[name], label=name)
        looks: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
        looks["color"] = "white" if name == "real" else "black"
        for i, j in np.ndindex(at.shape):
            if height[i, j] >= 7:
                sd = f" ± {spread[i, j]:.0f}" if np.isfinite(spread[i, j]) else " %"
                ax.text(at[i, j], bottom[i, j] + height[i, j] / 2, f"{mean[i, j]:.0f}{sd}", **looks)
        bottom = bottom + height
    for i, j in np.ndindex(at.shape):
        total = f"{n[:, i, j].sum():.0f}"
        ax.text(at[i, j], bottom[i, j] + 1, total, ha="center", fontsize=7.5)
    ax.set_xticks(at.ravel(), ["low", "high"] * len(sizes), fontsize=8)
    below: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "ha": "center",
    }
    for i, size in enumerate(sizes):
        ax.annotate(f"d_sae {size:,}", (i, 0), (0, -26), fontsize=9, **below)
    ax.set_xlabel("MCS", labelpad=18)
    ax.set_ylabel("share of the measured latents, %")
    ax.set_ylim(0, 108)
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside right center", fontsize=9)
    seeds = f"mean ± sd over {n_seeds} seeds; " if n_seeds > 1 else ""
    fig.suptitle(
        "What latents with low and high MCS are\n"
        f"{seeds}above the bars: measured latents{' of all seeds' if n_seeds > 1 else ''}",
        fontsize=10.5,
    )
    return fig
