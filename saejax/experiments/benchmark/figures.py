"""Pictures of the benchmark: shares of the machine's rate, cost that grows, times beside peers.

Numbers are medians over the turns with their extremes, [points], NaN where there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saejax.results.plots.figure import Figure
from saejax.results.plots.panels import Intervals, grid, logarithmic

# Okabe and Ito's colours, told apart with any kind of colour vision; markers tell them apart in
# grey.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKERS = "osD^vP"
BELOW: dict[str, Any] = {"loc": "outside lower center", "fontsize": 8.5, "frameon": False}


def _style(i: int) -> dict[str, str]:
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def _bars(numbers: Intervals) -> np.ndarray:
    """Lengths of error bars from the medians to the extremes."""
    return np.stack([numbers.value - numbers.low, numbers.high - numbers.value])


def _along(ax: Any, x: np.ndarray, numbers: Intervals, i: int, name: str) -> None:
    looks = {"lw": 1.3, "capsize": 2, "ms": 5, "label": name, **_style(i)}
    ax.errorbar(x, numbers.value, _bars(numbers), **looks)


def _logarithmic(ax: Any, values: Sequence[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
    ax.minorticks_off()
    logarithmic(ax)
    ax.grid(alpha=0.25)


def _rows(ax: Any, names: Sequence[str]) -> None:
    """Gives a panel a row for each name, the first on top."""
    n = len(names)
    ax.set_yticks(range(n), names, fontsize=8.5)
    ax.set_ylim(n - 0.5, -0.5)
    ax.grid(axis="x", alpha=0.25)
    ax.axvline(1, color="0.45", ls="--", lw=1)
    for i in range(1, n, 2):
        ax.axhspan(i - 0.5, i + 0.5, color="0.96", zorder=0)


def _across(ax: Any, at: np.ndarray, numbers: Intervals, i: int, name: str) -> None:
    looks = {"ls": "", "ms": 5, "capsize": 2, "label": name, **_style(i)}
    ax.errorbar(numbers.value, at, xerr=_bars(numbers), **looks)


def _goals(ax: Any, goals: Sequence[float], name: str) -> None:
    at, hoped = np.arange(len(goals)), np.asarray(goals, float)
    if np.isfinite(hoped).any():
        ax.vlines(hoped, at - 0.45, at + 0.45, color="black", lw=1.6, label=name)


def shares(names: Sequence[str], series: Mapping[str, Intervals], goals: Sequence[float]) -> Figure:
    """Useful rate of every shape as a share of a plain float32 product's.

    Args:
        names: of the shapes.
        series: precision -> shares of all shapes.
        goals: for each shape, NaN where there is none.
    """
    n = len(names)
    fig = Figure(figsize=(8.2, 1.5 + 0.32 * n), layout="constrained")
    ax = fig.subplots()
    _rows(ax, names)
    for i, (name, numbers) in enumerate(series.items()):
        _across(ax, np.arange(n) + (i - (len(series) - 1) / 2) * 0.3, numbers, i, name)
    _goals(ax, goals, "goal in float32")
    ax.set_xlim(left=0)
    ax.set_xlabel("useful rate of a training step / rate of a plain float32 matrix product")
    fig.legend(ncols=4, **BELOW)
    title = "Share of the machine's rate that training reaches"
    ax.set_title(f"{title}\nmedians, bars: extremes over the turns", fontsize=10.5)
    return fig


def growth(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Intervals]]], base: str
) -> Figure:
    """Seconds of a step against what grows, with a line of proportional cost.

    Args:
        panels: what grows -> its values, and for each precision the seconds of a step.
        base: what is held fixed, in words.
    """
    fig, axes = grid(len(panels), 3, 3.9, 3.2, 0.9)
    for ax, (what, (values, series)) in zip(axes, panels.items(), strict=True):
        x = np.asarray(values, float)
        for i, (name, numbers) in enumerate(series.items()):
            ms = Intervals(*(1e3 * a for a in numbers))
            _along(ax, x, ms, i, name)
            # From the right end, where the fixed cost of a step matters least.
            label = "proportional" if i == 0 else None
            ax.plot(x, ms.value[-1] * x / x[-1], color="0.45", ls="--", lw=1, label=label)
        _logarithmic(ax, values)
        ax.set(xlabel=what, ylabel="milliseconds a step")
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=4, **BELOW)
    fig.suptitle(
        f"How the cost of a step grows, from {base}\n"
        "above the dashed line: costs that all SAEs share, so that one more comes cheaper",
        fontsize=10.5,
    )
    return fig


def beside(
    names: Sequence[str],
    times: Mapping[str, Intervals],
    objectives: Mapping[str, np.ndarray],
    goals: Sequence[float],
) -> Figure:
    """How many times as long each peer takes, and what objective it ends at.

    Args:
        names: of the shapes.
        times: method -> ratio of its time to this library's, for all shapes.
        objectives: method -> objective after the same steps over this library's, likewise.
        goals: how many times as fast as SAELens is hoped for, NaN where nothing is.
    """
    n, height = len(names), 0.14 * len(times) + 0.25
    fig = Figure(figsize=(11.5, 1.9 + height * n), layout="constrained")
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    for ax in (left, right):
        _rows(ax, names)
    for i, (name, numbers) in enumerate(times.items()):
        at = np.arange(n) + (i - (len(times) - 1) / 2) * 0.8 / len(times)
        _across(left, at, numbers, i, name)
        right.plot(objectives[name], at, ls="", ms=5, **_style(i))
        for value, end, y in zip(numbers.value, numbers.high, at, strict=True):
            right_of_it: Any = {"textcoords": "offset points", "fontsize": 7.5}
            left.annotate(f"{value:.2g}", (end, y), (4, -3), **right_of_it)
    _goals(left, goals, "goal against SAELens")
    left.set_xscale("log")
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.set_xlabel("time / time of saejax in float32 (right of 1: saejax is faster)")
    right.set_xlabel("objective / objective of saejax")
    right.margins(x=0.2)
    left.set_title("Time of the same steps on the same batches", fontsize=10)
    right.set_title("Held-out objective they end at", fontsize=10)
    fig.legend(ncols=7, **BELOW)
    return fig


def fading(
    panels: Mapping[tuple[str, str], tuple[Sequence[int], Mapping[str, Intervals]]],
) -> Figure:
    """How many times as long the peers take, along width and along cells.

    Args:
        panels: (what grows, what is held fixed) -> its values, and for each peer the ratio of
            times.
    """
    fig, axes = grid(len(panels), 3, 4.1, 3.3, 0.9)
    for ax, ((what, fixed), (values, series)) in zip(axes, panels.items(), strict=True):
        x = np.asarray(values, float)
        for i, (name, numbers) in enumerate(series.items()):
            _along(ax, x, numbers, i, name)
        ax.axhline(1, color="0.45", ls="--", lw=1)
        _logarithmic(ax, values)
        ax.set(xlabel=what, ylabel="time / time of saejax")
        ax.set_title(fixed, fontsize=9)
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=6, **BELOW)
    title = "Where the gain over the peers fades: at 1 (dashed) both are equally fast"
    fig.suptitle(title, fontsize=10.5)
    return fig
