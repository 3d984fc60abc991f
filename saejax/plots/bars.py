"""Bars: how often features are active, and how a number spreads over draws."""

import numpy as np

from saejax.plots.figure import Figure


def frequencies(measured: np.ndarray, expected: np.ndarray) -> Figure:
    """How often every feature is active.

    Args:
        measured: [n_seeds, n_features], shares of samples; a dot for each seed, a bar for their mean.
        expected: [n_features], the firing probabilities asked for, drawn as a line.
    """
    n_seeds, n = measured.shape
    fig = Figure(figsize=(max(5.0, 0.5 * n + 2), 3.4), layout="constrained")
    ax = fig.subplots()
    at = np.arange(n)
    ax.bar(at, measured.mean(0), color="#a6cee3", width=0.7, label="measured, mean of the seeds")
    for values in measured:
        ax.plot(at, values, "o", color="#1f4e79", ms=3.5, alpha=0.7)
    ax.plot([], [], "o", color="#1f4e79", ms=3.5, label="one seed")
    ax.step(np.arange(n + 1) - 0.5, [*expected, expected[-1]], where="post", color="#d7301f", lw=1.3,
            label="asked for: falls with the feature's number")  # fmt: skip
    ax.set(xlabel="feature", ylabel="share of samples with it", xticks=at, xlim=(-0.6, n - 0.4))
    ax.set_ylim(0, 1.35 * max(float(measured.max()), float(expected.max())))
    ax.legend(fontsize=8, frameon=False, loc="upper right")
    ax.set_title(f"How often each feature is active ({n_seeds} seeds)", fontsize=10.5)
    return fig


def distribution(values: np.ndarray, xlabel: str, published: float) -> Figure:
    """Histogram of a number over draws, with its mean and the published value.

    Args:
        values: [n].
        xlabel: what it is.
        published: the text's number.
    """
    fig = Figure(figsize=(5.6, 3.2), layout="constrained")
    ax = fig.subplots()
    ax.hist(values, bins=min(20, max(5, len(values) // 5)), color="#a6cee3", edgecolor="white")
    ax.axvline(values.mean(), color="#1f4e79", lw=1.6, label=f"mean {values.mean():.2f}")
    ax.axvline(published, color="#d7301f", lw=1.6, ls="--", label=f"published {published:g}")
    ax.set(xlabel=xlabel, ylabel="number of draws")
    ax.legend(fontsize=8.5, frameon=False)
    return fig
