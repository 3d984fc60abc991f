"""Pictures of a result: the cells in question as arrays, handed to `saejax.results.plots`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saejax.core.stats import mean_and_spread
from saejax.metrics.catalogue import COMPARED
from saejax.results.axes import AXES
from saejax.results.plots import architectures as architecture_plots
from saejax.results.plots import sweep as sweep_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from saejax.results.result import Result


class Tracked(NamedTuple):
    """How a measurement over training is shown: title, y label, and whether it is summed up."""

    title: str
    ylabel: str
    total: bool = False


TRACKED = {
    "dead_latents": Tracked("Dead latents", "dead latents, % of d_sae"),
    "learned": Tracked("Times a feature was learned", "upward crossings, total", True),
    "unlearned": Tracked("Times a feature was unlearned", "downward crossings, total", True),
    "kept": Tracked("Features still learned with the same latent", "features"),
    "moved": Tracked("Features that moved to another latent", "moves, total", True),
}


def heatmap(result: "Result", metric: str, **where: Any) -> "Figure":
    """See `Result.plot_heatmap`."""
    chosen: dict[str, Any] = dict(zip(AXES, result.select(**where), strict=True))
    names = [result.coords["dataset"][i] for i in chosen["dataset"]]
    rest = _without_dataset(where)
    panels = {name: result.grid(metric, dataset=name, **rest) for name in names}
    ratios = [result.coords["ratio"][i] for i in chosen["ratio"]]
    axis, columns = result.sparsity(**rest)
    seeds, words = len(chosen["seed"]), _words(result, rest, " = ")
    return sweep_plots.heatmaps(
        panels, ratios, columns, metric, n_seeds=seeds, words=words, axis=axis
    )


def frontier(result: "Result", **where: Any) -> "Figure":
    """See `Result.plot_frontier`."""
    chosen: dict[str, Any] = dict(zip(AXES, result.select(**where), strict=True))
    rest = _without_dataset(where)
    panels = {}
    for i in chosen["dataset"]:
        name = result.coords["dataset"][i]
        l0, fvu = (result.grid(m, dataset=name, **rest)[0] for m in ("l0", "fvu"))
        panels[name] = l0, fvu
    ratios = [result.coords["ratio"][i] for i in chosen["ratio"]]
    axis, points = result.sparsity(**rest)
    return sweep_plots.frontier(panels, ratios, points, axis)


def training(result: "Result", metric: str, **where: Any) -> "Figure":
    """See `Result.plot_training`."""
    if metric not in result.history or metric == "frozen_at":
        known = [name for name in result.history if name != "frozen_at"]
        raise ValueError(f"metric: got {metric!r}, allowed: {', '.join(known)}")
    names = result.coords["dataset"]
    where = {"dataset": names[0], **where} if len(names) == 1 else where
    frozen = np.asarray(result.history["frozen_at"]) >= 0
    values = np.where(frozen, np.nan, result.history[metric])
    y = np.stack([result.cut(a, **where) for a in values], axis=1)
    chosen: dict[str, Any] = dict(zip(AXES, result.select(**where), strict=True))
    ratios = [result.coords["ratio"][i] for i in chosen["ratio"]]
    shown = TRACKED.get(metric, Tracked(sweep_plots.title_of(metric), metric))
    if metric == "dead_latents":
        y = 100 * y / np.array([result.d_sae[i] for i in chosen["ratio"]])[:, None]
    y = np.cumsum(y, axis=1) if shown.total else y
    mean, spread = mean_and_spread(y)
    axis, lines = result.sparsity(**where)
    dataset = result.coords["dataset"][chosen["dataset"][0]]
    words = _words(result, _without_dataset(where), " = ")
    title = f"{shown.title}, {dataset} data{f', {words}' if words else ''}"
    return sweep_plots.curves(
        result.steps, mean, spread, ratios, lines, title, shown.ylabel, n_seeds=len(y), axis=axis
    )


def at_sparsity(result: "Result", metric: str, **where: Any) -> dict[str, architecture_plots.Line]:
    """What every architecture reaches at which L0: means and spreads over seeds, [l1 or k].

    Args:
        result: of a sweep.
        metric: a measured metric.
        where: coordinates that leave one value on every axis but seed, architecture and that of
            `Result.sparsity`.

    Raises:
        ValueError: when they do not, and for an unknown metric.
    """
    chosen = result.select(**where)[AXES.index("architecture")]
    lines = {}
    for name in (result.coords["architecture"][i] for i in chosen):
        l0, (mean, spread) = (
            result.grid(m, **where | {"architecture": name}) for m in ("l0", metric)
        )
        if len(mean) > 1:
            allowed = ", ".join(f"{v:g}" for v in result.coords["ratio"])
            raise ValueError(f"ratio: not given, and the sweep has several: {allowed}")
        lines[name] = architecture_plots.Line(l0[0][0], mean[0], spread[0])
    return lines


def architectures(result: "Result", metrics: Sequence[str] = COMPARED, **where: Any) -> "Figure":
    """See `Result.plot_architectures`."""
    chosen = result.select(**where)
    names = [result.coords["dataset"][i] for i in chosen[0]]
    rest = _without_dataset(where)
    # What a run that has not ended lacks, as matching, is missed only where it is asked for.
    shown = [m for m in metrics if metrics is not COMPARED or m in result.final]
    panels = {
        name: {m: at_sparsity(result, m, dataset=name, **rest) for m in shown} for name in names
    }
    data = {name: result.run.get("data", {}).get(name, {}) for name in names}
    # In a hierarchy fewer are active than asked for, and Zipf's probabilities say how many.
    plain = {n: d for n, d in data.items() if not (d.get("zipf") or d.get("hierarchy"))}
    active = {n: d.get("avg_active") for n, d in plain.items()}
    words = _words(result, rest, " ")
    return architecture_plots.at_sparsity(
        panels,
        {name: value for name, value in active.items() if value},
        n_seeds=len(chosen[AXES.index("seed")]),
        words=f", {words}" if words else "",
    )


def _without_dataset(where: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in where.items() if name != "dataset"}


def _words(result: "Result", where: dict[str, Any], sign: str) -> str:
    """The coordinates among these that tell cells apart."""
    return ", ".join(f"{k}{sign}{v}" for k, v in where.items() if len(result.coords[k]) > 1)
