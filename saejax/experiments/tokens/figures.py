"""Pictures of how latents respond to single tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize

from saejax.results.plots.figure import Figure


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
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    widest = max(h.shape[1] for h in panels.values())
    n = len(labels)
    fig = Figure(
        figsize=(max(5.0, 0.42 * widest + 1.6) * columns + 0.8, (0.25 * n + 1.1) * rows + 0.4),
        layout="constrained",
    )
    axes = fig.subplots(rows, columns, squeeze=False)
    image = None
    for ax in axes.ravel()[len(panels) :]:
        ax.set_axis_off()
    for ax, (title, h), latents in zip(axes.ravel(), panels.items(), names, strict=False):
        largest = h.max(0)
        image = ax.imshow(
            h / largest, cmap=colormaps["Greens"], norm=Normalize(0, 1), aspect="auto"
        )
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
        fig.colorbar(
            image,
            ax=list(axes.ravel()),
            label="share of the latent's largest activation",
            shrink=min(1.0, 2 / rows),
        )
    return fig


def own_rates(
    share: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    groups: Sequence[str],
    l1: Sequence[float],
    n_seeds: int,
) -> Figure:
    """Heat map of the share of seeds in which a group gets a latent of its own, with intervals.

    Args:
        share: [l1, groups].
        low: likewise, lower ends of the intervals.
        high: likewise, upper ends.
        groups: names of the rows.
        l1: labels of the columns.
        n_seeds: how many seeds.
    """
    fig = Figure(
        figsize=(max(5.0, 1.0 * len(l1) + 2.4), max(2.6, 0.52 * len(groups) + 1.5)),
        layout="constrained",
    )
    ax = fig.subplots()
    cmap = colormaps["viridis"]
    image = ax.imshow(share.T, cmap=cmap, norm=Normalize(0, 1), aspect="auto")
    ax.set_xticks(range(len(l1)), [f"{v:.2g}" for v in l1])
    ax.set_yticks(range(len(groups)), groups)
    ax.set_xlabel("L1 coefficient")
    for j, i in np.ndindex(share.shape):
        text = f"{100 * share[j, i]:.0f} %"
        if n_seeds > 1:
            text += f"\n({100 * low[j, i]:.0f} to {100 * high[j, i]:.0f})"
        red, green, blue, _ = cmap(share[j, i])
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        ax.text(
            j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black"
        )
    fig.colorbar(image, label="share of seeds")
    interval = "; brackets: 95 % interval" if n_seeds > 1 else ""
    fig.suptitle(
        f"How often a group of tokens gets a latent of its own ({n_seeds} seeds{interval})",
        fontsize=10.5,
    )
    return fig


def against_l1(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], l1: Sequence[float]) -> Figure:
    """Measurements against the L1 coefficient, side by side.

    Args:
        panels: y label -> mean and standard deviation over seeds, both [l1].
        l1: coefficients; 0 has no place on the logarithmic axis and stands at its left end.
    """
    fig = Figure(figsize=(3.1 * len(panels), 2.9), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    at = np.asarray(l1, float)
    order = np.argsort(at)
    for ax, (name, (mean, spread)) in zip(axes, panels.items(), strict=True):
        bars = np.where(np.isfinite(spread), spread, 0)
        ax.errorbar(
            at[order], mean[order], bars[order], marker="o", ms=4, capsize=2.5, color="#2166ac"
        )
        positive = at[at > 0]
        if positive.size > 1:
            ax.set_xscale(
                "symlog" if (at == 0).any() else "log",
                **({"linthresh": positive.min()} if (at == 0).any() else {}),
            )
        ax.set(xlabel="L1 coefficient", ylabel=name)
        low = mean - bars
        ax.set_ylim(bottom=float(np.min(low, initial=0, where=np.isfinite(low))))
        ax.grid(alpha=0.25)
    return fig
