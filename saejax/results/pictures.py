"""Pictures of a result: the cells in question as arrays, handed to `saejax.results.plots`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saejax.core.stats import mean_and_spread
from saejax.metrics.catalogue import COMPARED, TRACKED, Curve
from saejax.results.plots import architectures as architecture_plots
from saejax.results.plots import sweep as sweep_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from saejax.results.result import Result


def heatmap(result: "Result", metric: str, **where: Any) -> "Figure":
    """See `Result.plot_heatmap`."""
    along, rest = result.along(**where), _without_dataset(where)
    panels = {name: result.grid(metric, dataset=name, **rest) for name in along["dataset"]}
    axis, columns = result.sparsity(**rest)
    words = _words(result, rest, " = ")
    return sweep_plots.heatmaps(
        panels, along["ratio"], columns, metric, len(along["seed"]), words, axis
    )


def frontier(result: "Result", **where: Any) -> "Figure":
    """See `Result.plot_frontier`."""
    along, rest = result.along(**where), _without_dataset(where)
    panels = {}
    for name in along["dataset"]:
        l0, fvu = (result.grid(metric, dataset=name, **rest)[0] for metric in ("l0", "fvu"))
        panels[name] = l0, fvu
    axis, points = result.sparsity(**rest)
    return sweep_plots.frontier(panels, along["ratio"], points, axis)


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
    along = result.along(**where)
    curve = TRACKED.get(metric, Curve(sweep_plots.title_of(metric), metric))
    if metric == "dead_latents":
        width = dict(zip(result.coords["ratio"], result.d_sae, strict=True))
        y = 100 * y / np.array([width[ratio] for ratio in along["ratio"]])[:, None]
    y = np.cumsum(y, axis=1) if curve.total else y
    axis, lines = result.sparsity(**where)
    words = _words(result, _without_dataset(where), " = ")
    title = f"{curve.title}, {along['dataset'][0]} data{f', {words}' if words else ''}"
    return sweep_plots.curves(
        result.steps, *mean_and_spread(y), along["ratio"], lines, title, curve.ylabel, len(y), axis
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
    lines = {}
    for name in result.along(**where)["architecture"]:
        own = where | {"architecture": name}
        l0, (mean, spread) = (result.grid(m, **own) for m in ("l0", metric))
        if len(mean) > 1:
            allowed = ", ".join(f"{v:g}" for v in result.coords["ratio"])
            raise ValueError(f"ratio: not given, and the sweep has several: {allowed}")
        lines[name] = architecture_plots.Line(l0[0][0], mean[0], spread[0])
    return lines


def architectures(result: "Result", metrics: Sequence[str] = COMPARED, **where: Any) -> "Figure":
    """See `Result.plot_architectures`."""
    along, rest = result.along(**where), _without_dataset(where)
    # What a run that has not ended lacks, as matching, is missed only where it is asked for.
    shown = [m for m in metrics if metrics is not COMPARED or m in result.final]
    panels, active = {}, {}
    for name in along["dataset"]:
        panels[name] = {m: at_sparsity(result, m, dataset=name, **rest) for m in shown}
        data = result.run.get("data", {}).get(name, {})
        # In a hierarchy fewer are active than asked for, and Zipf's probabilities say how many.
        if data.get("avg_active") and not (data.get("zipf") or data.get("hierarchy")):
            active[name] = data["avg_active"]
    words = _words(result, rest, " ")
    return architecture_plots.at_sparsity(
        panels, active, len(along["seed"]), f", {words}" if words else ""
    )


def _without_dataset(where: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in where.items() if name != "dataset"}


def _words(result: "Result", where: dict[str, Any], sign: str) -> str:
    """The coordinates among these that tell cells apart."""
    return ", ".join(f"{k}{sign}{v}" for k, v in where.items() if len(result.coords[k]) > 1)
