"""Pictures of a language model's training, and of what dictionaries of each size keep."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps

from saejax.core.stats import mean_and_spread
from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import Intervals, at_sizes, dots, grid, nothing

# How the name of a line stands at its right end.
MARK: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "textcoords": "offset points",
    "ha": "right",
    "fontsize": 7.5,
    "color": "0.35",
    "bbox": {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.5},
}


class Measured(NamedTuple):
    """One measurement of all dictionaries.

    Attributes:
        numbers: for each l1, of all seeds and sizes.
        marks: name -> a number that it is to be seen against, drawn as a line; NaN draws none.
    """

    numbers: Sequence[Intervals]
    marks: Mapping[str, float] = {}


def loss_curve(
    steps: np.ndarray, train: np.ndarray, validation: np.ndarray, unigram_entropy: float
) -> Figure:
    """Loss of a language model during training, in nats per token.

    Args:
        steps: [n_eval].
        train: [n_eval], mean loss of the steps since the last evaluation.
        validation: [n_eval], loss on text that it is not trained on.
        unigram_entropy: loss of a model that knows how common each token is and nothing else; NaN
            draws none.
    """
    fig = Figure(figsize=(6.2, 3.3), layout="constrained")
    ax = fig.subplots()
    ax.plot(steps, train, "o-", ms=3, lw=1.2, color="#92c5de", label="training text")
    ax.plot(steps, validation, "o-", ms=3, lw=1.6, color="#2166ac", label="validation text")
    if np.isfinite(unigram_entropy):
        label = f"unigram entropy: {unigram_entropy:.2f}"
        ax.axhline(unigram_entropy, color="0.45", ls="--", lw=1, label=label)
    known = np.flatnonzero(np.isfinite(validation))
    if known.size:
        last = validation[known[-1]]
        looks: Any = {
            "ha": "center",
            "fontsize": 8.5,
            "textcoords": "offset points",
            "color": "#2166ac",
        }
        ax.annotate(f"{last:.2f}", (steps[known[-1]], last), (0, 6), **looks)
    ax.set(xlabel="training step", ylabel="loss, nats per token")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8.5, frameon=False)
    ax.set_title("Loss of the language model", fontsize=10.5)
    return fig


def over_sizes(panels: Mapping[str, Measured], sizes: Sequence[int], l1: Sequence[float]) -> Figure:
    """Measurements against the dictionary's size, a colour for each l1.

    Dots are single seeds with their intervals, where they have any; lines join the means over
    seeds, and bars on them are standard deviations.

    Args:
        panels: y label -> measurement.
        sizes: d_sae.
        l1: coefficients.
    """
    fig, axes = grid(len(panels), 3, 3.7, 2.9)
    colours = colormaps["plasma"](np.linspace(0, 0.8, len(l1)))
    n_seeds = 1
    for ax, (name, measured) in zip(axes, panels.items(), strict=True):
        at, width = at_sizes(ax, sizes), 0.6 / len(l1)
        for j, (numbers, colour) in enumerate(zip(measured.numbers, colours, strict=True)):
            x = at + (j - (len(l1) - 1) / 2) * width
            n_seeds = len(numbers.value)
            dots(ax, x, numbers, colour, 0.7 * width)
            mean, spread = mean_and_spread(numbers.value)
            bars = spread if np.isfinite(spread).any() else None
            looks = {"lw": 1, "capsize": 3, "elinewidth": 1}
            ax.errorbar(x, mean, bars, color=colour, label=f"{l1[j]:g}", **looks)
        for mark, value in measured.marks.items():
            if np.isfinite(value):
                ax.axhline(value, color="0.45", ls="--", lw=1)
                ax.annotate(mark, (1, value), (-2, 2), **MARK)
        if not any(np.isfinite(numbers.value).any() for numbers in measured.numbers):
            nothing(ax, "not measured")
        ax.set_ylabel(name, fontsize=8.5)
        ax.tick_params(labelsize=8)
        ax.margins(y=0.12)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, title="L1", loc="outside right center", fontsize=8.5)
    seeds = f", lines: mean ± sd over {n_seeds} seeds" if n_seeds > 1 else ""
    notes = f"dots: seeds with intervals{seeds}"
    fig.suptitle(f"Dictionaries against their size\n{notes}", fontsize=10.5)
    return fig
