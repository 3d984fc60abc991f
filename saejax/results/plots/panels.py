"""What pictures with several panels share: their grid, and single seeds with intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from saejax.results.plots.figure import Figure


class Intervals(NamedTuple):
    """Numbers of all seeds and sizes, [seeds, sizes], NaN where there is none.

    Attributes:
        value: the numbers.
        low: lower ends of their intervals.
        high: the upper ends, which an interval of a distance may have both above the number.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def grid(
    n: int, columns: int, width: float, height: float, extra: float = 0.5, **subplots: Any
) -> tuple[Figure, list[Any]]:
    """A figure of n panels in rows of so many, each of that size in inches.

    Args:
        n: panels.
        columns: at most.
        width: of a panel.
        height: of a panel.
        extra: height of what stands above them.
        subplots: passed on.
    """
    columns = min(columns, n)
    rows = -(-n // columns)
    fig = Figure(figsize=(max(7.0, width * columns), height * rows + extra), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **subplots).ravel()
    for ax in axes[n:]:
        ax.set_axis_off()
    # With shared axes they would stand beside the outer panels only, which may be empty.
    for ax in axes[:n]:
        ax.tick_params(labelbottom=True, labelleft=True)
    return fig, list(axes[:n])


def nothing(ax: Any, text: str) -> None:
    """Says in the middle of a panel why it is empty."""
    ax.text(
        0.5, 0.5, text, ha="center", va="center", fontsize=9, color="0.35", transform=ax.transAxes
    )


def dots(ax: Any, centre: np.ndarray, numbers: Intervals, colour: Any, width: float) -> None:
    """A dot with its interval for every seed, side by side about the centre of each size.

    Args:
        ax: where.
        centre: [sizes], on the x axis.
        numbers: of all seeds and sizes.
        colour: of the dots.
        width: on the x axis, of all seeds together.
    """
    n_seeds = len(numbers.value)
    for s in range(n_seeds):
        x = centre + (s - (n_seeds - 1) / 2) * width / n_seeds
        ax.vlines(x, numbers.low[s], numbers.high[s], color=colour, lw=1.2, alpha=0.7)
        ax.plot(x, numbers.value[s], "o", color=colour, ms=3, alpha=0.8)


def at_sizes(ax: Any, sizes: Sequence[int]) -> np.ndarray:
    """Puts the sizes on the x axis at equal distances, and returns their places."""
    at = np.arange(len(sizes))
    ax.set_xticks(at, [f"{size:,}" for size in sizes])
    ax.set_xlim(-0.6, len(sizes) - 0.4)
    ax.set_xlabel("d_sae")
    ax.grid(axis="y", alpha=0.25)
    ax.set_axisbelow(True)
    return at


def logarithmic(ax: Any, which: str = "y") -> None:
    """A logarithmic axis with plain numbers, enough of them also where it spans a decade or less.

    Args:
        ax: the panel.
        which: "x" or "y".
    """
    getattr(ax, f"set_{which}scale")("log")
    low, high = getattr(ax, f"get_{which}lim")()
    axis = getattr(ax, f"{which}axis")
    if high < 4 * low:
        axis.set_major_locator(MaxNLocator(5))
    elif high < 300 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())
