"""What a sweep came to: measurements as arrays over named axes, and the dictionaries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saejax import plots
from saejax.metrics import LARGER_IS_BETTER
from saejax.sae import Params
from saejax.sweep import AXES, SAME
from saejax.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Columns of the table of results, in order; what was not measured stays empty.
METRICS = (
    "mmcs_true_to_dict", "mmcs_dict_to_true", "mse", "l1_loss", "l0", "fvu", "dead_latents",
    "mmcs_to_next_larger", "learned", "unlearned", "represented",
)  # fmt: skip


def coordinates(coords: Mapping[str, tuple], index: tuple[int, ...]) -> dict[str, Any]:
    """A cell's coordinates by name, from its position along the axes."""
    return {name: values[i] for (name, values), i in zip(coords.items(), index, strict=True)}


def final_values(history: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each measurement's last value; of learned and unlearned the sum over all evaluations."""
    summed = ("learned", "unlearned")
    return {name: a.sum(0) if name in summed else a[-1] for name, a in history.items()}


class Snapshots(NamedTuple):
    """One dictionary over its training.

    Attributes:
        steps: [n], steps done at each snapshot, from 0 on.
        W_dec: [n, d_sae, d_in], decoder rows.
        alive: [n, d_sae], which latents fired on the evaluation batches of that step.
    """

    steps: np.ndarray
    W_dec: np.ndarray
    alive: np.ndarray


@dataclass(frozen=True)
class Result:
    """Measurements and dictionaries of a sweep.

    Attributes:
        coords: values along each axis, in the order of `saejax.sweep.AXES`; "shape" below is their
            lengths.
        d_sae: width at each ratio.
        run: settings, device, versions and times, JSON types only.
        steps: [n_eval], steps done at each evaluation.
        history: name -> [n_eval, *shape], everything measured at the evaluations.
        final: name -> [*shape], the last evaluation; learned and unlearned are sums over all of
            them. `mmcs_to_next_larger` is NaN for the widest dictionary.
        best_index: [n_eval, *shape, n_features], best latent of every true feature; None where the
            features are unknown.
        best_cosine: likewise its cosine, the feature's representedness.
        features: [dataset, seed, n_features, d_in], the true features, or None.
        load_params: position along the axes -> that cell's weights.
        load_snapshots: position along the axes -> that cell's snapshots; None where none were taken.
    """

    coords: dict[str, tuple]
    d_sae: tuple[int, ...]
    run: dict[str, Any]
    steps: np.ndarray
    history: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    best_index: np.ndarray | None
    best_cosine: np.ndarray | None
    features: np.ndarray | None
    load_params: Callable[[tuple[int, ...]], Params]
    load_snapshots: Callable[[tuple[int, ...]], Snapshots] | None = None

    def __repr__(self) -> str:
        axes = " x ".join(f"{len(v)} {k}" for k, v in self.coords.items() if len(v) > 1)
        n = self.final["frozen_at"].size
        return f"Result({n} SAEs: {axes or 'one cell'}; {int(self.steps[-1])} steps)"

    def select(self, **where: Any) -> tuple[tuple[int, ...], ...]:
        """Positions along each axis that the given coordinates allow.

        Args:
            where: axis name = value; floats may be off by a thousandth. Axes not named are whole.

        Raises:
            ValueError: for an unknown axis or a value that the axis does not have.
        """
        unknown = set(where) - set(AXES)
        if unknown:
            raise ValueError(f"got the axis {sorted(unknown)[0]!r}, allowed: {', '.join(AXES)}")
        chosen = []
        for name, values in self.coords.items():
            hits = tuple(range(len(values)))
            if name in where:
                hits = tuple(i for i, v in enumerate(values) if _equal(v, where[name]))
                if not hits:
                    allowed = ", ".join(map(str, values))
                    raise ValueError(f"{name}: got {where[name]!r}, allowed: {allowed}")
            chosen.append(hits)
        return tuple(chosen)

    @property
    def variants(self) -> list[dict[str, Any]]:
        """Every combination of the swept ones of lr and resample, each to be given to `select`.

        An axis is swept where it has several values; one empty combination where neither is.
        """
        swept = {name: self.coords[name] for name in ("lr", "resample") if len(self.coords[name]) > 1}
        return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]

    def values(self, metric: str) -> np.ndarray:
        """Final values [*shape] of a metric, NaN in cells that were frozen as not finite.

        Raises:
            ValueError: for a metric that was not measured.
        """
        if metric not in self.final or metric == "frozen_at":
            known = [name for name in self.final if name != "frozen_at"]
            raise ValueError(f"metric: got {metric!r}, allowed: {', '.join(known)}")
        return np.where(self.final["frozen_at"] < 0, self.final[metric], np.nan)

    def table(self, over_seeds: bool = False) -> Table:
        """One row a cell, or with `over_seeds` one row for all seeds of a cell.

        The row over seeds has each metric's mean and, as `<metric>_sd`, its standard deviation
        (divisor n - 1; empty for one seed); frozen cells are left out of both.
        """
        measured = [name for name in METRICS if name in self.final]
        axes = [i for i, name in enumerate(AXES) if not (over_seeds and name == "seed")]
        rows = []
        shape = tuple(len(v) for v in self.coords.values())
        for index in np.ndindex(*(shape[i] for i in axes)):
            at = dict(zip(axes, index, strict=True))
            cell = {AXES[i]: self.coords[AXES[i]][k] for i, k in at.items()}
            row = {name: cell.pop(name) for name in ("dataset", "ratio", "l1", "seed") if name in cell}
            row["d_sae"] = self.d_sae[at[AXES.index("ratio")]]
            full = tuple(at.get(i, slice(None)) for i in range(len(AXES)))
            for name in measured:
                if over_seeds:
                    row[name], row[f"{name}_sd"] = plots.mean_and_spread(self.values(name)[full])
                else:
                    row[name] = float(self.final[name][full])
            frozen = self.final["frozen_at"][full]
            row |= cell
            if over_seeds:
                row["frozen"] = int((frozen >= 0).sum())
            else:
                row["frozen_at"] = int(frozen) if frozen >= 0 else None
            rows.append(row)
        return Table(rows)

    def best(self, metric: str = "mmcs_true_to_dict", **where: Any) -> dict[str, Any]:
        """The table's row with the best value of a metric; over the mean where there are seeds.

        Args:
            metric: a column of the table.
            where: coordinates that the row must have, as in `select`.

        Raises:
            ValueError: for an unknown metric, or when no cell in question has a value.
        """
        values = self.values(metric)
        if metric not in LARGER_IS_BETTER:
            raise ValueError(f"metric: got {metric!r}, allowed: {', '.join(LARGER_IS_BETTER)}")
        allowed = dict(zip(AXES, self.select(**where), strict=True))
        seeds = len(allowed["seed"]) > 1
        rows = [
            row
            for row in self.table(over_seeds=seeds)
            if all(
                row[name] in [self.coords[name][i] for i in hits]
                for name, hits in allowed.items()
                if name in row
            )
            and row[metric] is not None
            and np.isfinite(row[metric])
            and row.get("frozen_at") is None
        ]
        if not rows:
            raise ValueError(f"{metric}: no cell in question has a value ({values.size} cells in all)")
        sign = 1 if LARGER_IS_BETTER[metric] else -1
        return max(rows, key=lambda row: sign * row[metric])

    def dictionary(self, **where: Any) -> Params:
        """Weights of one cell, as NumPy arrays.

        Args:
            where: coordinates; an axis with a single value may be left out.

        Raises:
            ValueError: when the coordinates do not name exactly one cell.
        """
        return self.load_params(self._one(where))

    def snapshots(self, **where: Any) -> Snapshots:
        """One cell's dictionary over its training.

        Args:
            where: coordinates, as in `dictionary`.

        Raises:
            ValueError: when the run took no snapshots (`Settings.snapshot_every`), and when the
                coordinates do not name exactly one cell.
        """
        if self.load_snapshots is None:
            raise ValueError("snapshot_every: was 0 in this run, allowed for snapshots: above 0")
        return self.load_snapshots(self._one(where))

    def _one(self, where: dict[str, Any]) -> tuple[int, ...]:
        chosen = self.select(**where)
        for name, hits in zip(AXES, chosen, strict=True):
            if len(hits) > 1:
                allowed = ", ".join(str(self.coords[name][i]) for i in hits)
                raise ValueError(f"{name}: not given, and the sweep has several: {allowed}")
        return tuple(hits[0] for hits in chosen)

    def grid(self, metric: str, **where: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread over seeds of a metric as [ratio, l1] arrays.

        Args:
            metric: a measured metric.
            where: coordinates that leave one value on every axis but seed, ratio and l1.

        Raises:
            ValueError: when they do not.
        """
        values = self.values(metric)
        chosen = self.select(**where)
        for name, hits in zip(AXES, chosen, strict=True):
            if name not in ("seed", "ratio", "l1") and len(hits) > 1:
                allowed = ", ".join(str(self.coords[name][i]) for i in hits)
                raise ValueError(f"{name}: not given, and the sweep has several: {allowed}")
        cut = values[np.ix_(*chosen)]  # dataset, seed, ratio, l1, lr, resample
        return plots.mean_and_spread(cut[0, :, :, :, 0, 0])

    def plot_heatmap(self, metric: str = "mmcs_true_to_dict", **where: Any) -> "Figure":
        """Heat map of a metric over ratio and l1; several data sets stand side by side.

        Args:
            metric: a measured metric.
            where: coordinates of the cells to show, as in `select`.

        Raises:
            ValueError: for an unknown metric, or when an axis other than dataset, seed, ratio and l1
                has several values and none is chosen.
        """
        chosen = dict(zip(AXES, self.select(**where), strict=True))
        names = [self.coords["dataset"][i] for i in chosen["dataset"]]
        rest = {k: v for k, v in where.items() if k != "dataset"}
        panels = {name: self.grid(metric, dataset=name, **rest) for name in names}
        ratios = [self.coords["ratio"][i] for i in chosen["ratio"]]
        l1 = [self.coords["l1"][i] for i in chosen["l1"]]
        words = ", ".join(f"{k} = {v}" for k, v in rest.items() if len(self.coords[k]) > 1)
        return plots.heatmaps(panels, ratios, l1, metric, n_seeds=len(chosen["seed"]), words=words)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, int | float):
        return bool(np.isclose(value, wanted, rtol=SAME, atol=0))
    return value == wanted
