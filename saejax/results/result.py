"""What a sweep came to: measurements as arrays over named axes, and the dictionaries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saejax.core.stats import mean_and_spread
from saejax.core.table import Table
from saejax.metrics.catalogue import COMPARED, LARGER_IS_BETTER, METRICS
from saejax.results.axes import (
    ABSENT,
    AXES,
    BY_NAME,
    FIRST_COLUMNS,
    SPARSITY,
    coordinates,
    same,
    telling,
)
from saejax.sae.params import Params
from saejax.sae.registry import KINDS, described
from saejax.sae.trained import SAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        coords: values along each axis, in the order of `saejax.results.axes.AXES`; "shape" below is
            their lengths. A combination that is no cell (the l1 of a TopK is 0, no other) has NaN
            in every measurement, and `frozen_at` = `ABSENT`.
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
        load_snapshots: position along the axes -> that cell's snapshots; None where none were
            taken.
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
        n = len(self.cells())
        return f"Result({n} SAEs: {axes or 'one cell'}; {int(self.steps[-1])} steps)"

    def select(self, **where: Any) -> tuple[tuple[int, ...], ...]:
        """Positions along each axis that the given coordinates allow.

        Args:
            where: axis name = value; floats may be off by a thousandth. Of axes not named it is
                every position at which there is a cell.

        Raises:
            ValueError: for an unknown axis, a value that the axis does not have, and coordinates
                that no cell has together.
        """
        unknown = set(where) - set(AXES)
        if unknown:
            raise ValueError(f"got the axis {sorted(unknown)[0]!r}, allowed: {', '.join(AXES)}")
        chosen = []
        for name, values in self.coords.items():
            hits = list(range(len(values)))
            if name in where:
                hits = [i for i, v in enumerate(values) if same(v, where[name])]
                if not hits:
                    allowed = ", ".join(map(str, values))
                    raise ValueError(f"{name}: got {where[name]!r}, allowed: {allowed}")
            chosen.append(hits)
        there = self.final["frozen_at"][np.ix_(*chosen)] != ABSENT
        if not there.any():
            at = ", ".join(f"{name}={value}" for name, value in where.items())
            raise ValueError(f"got {at}, allowed: coordinates of a cell; no cell has all of these")
        rest = (tuple(j for j in range(there.ndim) if j != i) for i in range(there.ndim))
        used = [there.any(axes) for axes in rest]
        return tuple(
            tuple(i for i, has in zip(hits, any_cell, strict=True) if has)
            for hits, any_cell in zip(chosen, used, strict=True)
        )

    def along(self, **where: Any) -> dict[str, tuple]:
        """Values along each axis of the cells in question; arguments and errors as in `select`."""
        chosen = zip(self.coords.items(), self.select(**where), strict=True)
        return {name: tuple(values[i] for i in hits) for (name, values), hits in chosen}

    @property
    def variants(self) -> list[dict[str, Any]]:
        """Every combination of the swept ones of lr, resample and architecture, for `select`.

        An axis is swept where it has several values; one empty combination where none is.
        """
        swept = [n for n in AXES if BY_NAME[n].shown == "variant" and len(self.coords[n]) > 1]
        where = [AXES.index(name) for name in swept]
        there = {tuple(index[i] for i in where) for index in self.cells()}
        return [
            {name: self.coords[name][i] for name, i in zip(swept, places, strict=True)}
            for places in sorted(there)
        ]

    def values(self, metric: str) -> np.ndarray:
        """Final values [*shape] of a metric, NaN in cells that were frozen as not finite.

        Raises:
            ValueError: for a metric that was not measured.
        """
        if metric not in self.final or metric == "frozen_at":
            known = [name for name in self.final if name != "frozen_at"]
            raise ValueError(f"metric: got {metric!r}, allowed: {', '.join(known)}")
        return np.where(self.final["frozen_at"] < 0, self.final[metric], np.nan)

    def cells(self) -> list[tuple[int, ...]]:
        """Positions along the axes of every cell; not every combination of coordinates is one."""
        return [tuple(i.tolist()) for i in np.argwhere(self.final["frozen_at"] != ABSENT)]

    @property
    def own_metrics(self) -> list[str]:
        """Names of the user's metrics (`metrics=` of `saejax.train`)."""
        return [name for name in self.run.get("metrics", {}) if name in self.final]

    def table(self, over_seeds: bool = False) -> Table:
        """One row a cell, or with `over_seeds` one row for all seeds of a cell.

        The row over seeds has each metric's mean and, as `<metric>_sd`, its standard deviation
        (divisor n - 1; empty for one seed); frozen cells are left out of both.
        """
        measured = [name for name in METRICS if name in self.final] + self.own_metrics
        # What is the same everywhere stands at the end.
        first = [name for name in FIRST_COLUMNS if name in telling(self.coords)]
        axes = {i: n for i, n in enumerate(AXES) if not (over_seeds and n == "seed")}
        rows = []
        for index in np.ndindex(*(len(self.coords[name]) for name in axes.values())):
            at = dict(zip(axes, index, strict=True))
            full = tuple(at.get(i, slice(None)) for i in range(len(AXES)))
            frozen = self.final["frozen_at"][full]
            if np.all(frozen == ABSENT):
                continue
            cell = {name: self.coords[name][at[i]] for i, name in axes.items()}
            row = {name: cell.pop(name) for name in first if name in cell}
            row["d_sae"] = self.d_sae[at[AXES.index("ratio")]]
            for name in measured:
                if over_seeds:
                    row[name], row[f"{name}_sd"] = mean_and_spread(self.values(name)[full])
                else:
                    row[name] = float(self.final[name][full])
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
            metric: a column of the table; of the user's own metrics a larger one is better.
            where: coordinates that the row must have, as in `select`.

        Raises:
            ValueError: for an unknown metric, or when no cell in question has a value.
        """
        values = self.values(metric)
        better = LARGER_IS_BETTER | dict.fromkeys(self.own_metrics, True)
        if metric not in better:
            raise ValueError(f"metric: got {metric!r}, allowed: {', '.join(better)}")
        allowed = self.along(**where)
        rows = [
            row
            for row in self.table(over_seeds=len(allowed["seed"]) > 1)
            if all(row[name] in values for name, values in allowed.items() if name in row)
            and row[metric] is not None
            and np.isfinite(row[metric])
            and row.get("frozen_at") is None
        ]
        if not rows:
            raise ValueError(
                f"{metric}: no cell in question has a value ({values.size} cells in all)"
            )
        sign = 1 if better[metric] else -1
        return max(rows, key=lambda row: sign * row[metric])

    def in_words(self, row: Mapping[str, Any]) -> str:
        """The setting of a row of the table: architecture where several are, L1 or k, ratio."""
        parts = [str(row["architecture"])] if len(self.coords["architecture"]) > 1 else []
        parts.append(f"k {row['k']}" if row["k"] else f"L1 {row['l1']:.2g}")
        return ", ".join([*parts, f"ratio {row['ratio']:g}"])

    def dictionary(self, **where: Any) -> Params:
        """Weights of one cell, as NumPy arrays.

        Args:
            where: coordinates; an axis with a single value may be left out.

        Raises:
            ValueError: when the coordinates do not name exactly one cell.
        """
        return self.load_params(self._one(where))

    def sae(self, **where: Any) -> SAE:
        """One cell's SAE, ready to encode, to be saved or handed on.

        Args:
            where: coordinates, as in `dictionary`.

        Raises:
            ValueError: as `dictionary`, and where a user's architecture has an encoder of its own.
        """
        index = self._one(where)
        at = coordinates(self.coords, index)
        kind = described(self.run, at["architecture"])
        if kind not in KINDS:
            raise ValueError(f"architecture: got {kind!r}, allowed: {', '.join(KINDS)}")
        about = {**at, "d_in": self.run["d_in"], "versions": self.run["versions"]}
        return SAE(self.load_params(index), kind, at["k"], about)

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
        self._check_single(where, ())
        return tuple(hits[0] for hits in self.select(**where))

    def _check_single(self, where: dict[str, Any], several: Sequence[str]) -> None:
        """Raises ValueError where an axis besides some has several values in the cells."""
        for name, values in self.along(**where).items():
            if len(values) > 1 and name not in several:
                allowed = ", ".join(map(str, values))
                raise ValueError(f"{name}: not given, and the sweep has several: {allowed}")

    def sparsity(self, **where: Any) -> tuple[str, tuple]:
        """The axis that sets how sparse the cells in question are, l1 or k, and its values there.

        Raises:
            ValueError: where both have several values, as those of several architectures have.
        """
        along = self.along(**where)
        swept = [name for name in SPARSITY if len(along[name]) > 1]
        if len(swept) > 1:
            names = ", ".join(map(str, along["architecture"]))
            raise ValueError(f"architecture: not given, and the sweep has several: {names}")
        name = swept[0] if swept else "k" if along["k"][0] else "l1"
        return name, along[name]

    def cut(self, values: np.ndarray, **where: Any) -> np.ndarray:
        """Values [*shape, ...] of the cells in question as [seed, ratio, sparsity, ...].

        Args:
            values: of every cell.
            where: coordinates that leave one value on every axis but seed, ratio and that of
                `sparsity`.

        Raises:
            ValueError: when they do not.
        """
        self.sparsity(**where)
        self._check_single(where, ("seed", "ratio", *SPARSITY))
        chosen = self.select(**where)
        cells = values[np.ix_(*chosen)]
        return cells.reshape(len(chosen[1]), len(chosen[2]), -1, *values.shape[len(AXES) :])

    def grid(self, metric: str, **where: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread over seeds of a metric as [ratio, sparsity] arrays.

        Args:
            metric: a measured metric.
            where: as in `cut`.

        Raises:
            ValueError: likewise.
        """
        return mean_and_spread(self.cut(self.values(metric), **where))

    def plot_heatmap(self, metric: str = "mmcs_true_to_dict", **where: Any) -> "Figure":
        """Heat map of a metric over ratio and l1 or k; several data sets stand side by side.

        Args:
            metric: a measured metric.
            where: coordinates of the cells to show, as in `select`.

        Raises:
            ValueError: for an unknown metric, or when an axis other than dataset, seed, ratio and
                l1 or k has several values and none is chosen.
        """
        return _pictures().heatmap(self, metric, **where)

    def plot_frontier(self, **where: Any) -> "Figure":
        """L0 against fvu, a line for each ratio; several data sets stand side by side.

        Arguments and errors as in `plot_heatmap`.
        """
        return _pictures().frontier(self, **where)

    def plot_training(self, metric: str = "mse", **where: Any) -> "Figure":
        """A metric over training, a panel for each ratio and a line for each l1 or k.

        Dead latents are in percent of d_sae, and crossings are summed up. Arguments and errors as
        in `plot_heatmap`, but of one data set.
        """
        return _pictures().training(self, metric, **where)

    def plot_architectures(self, metrics: Sequence[str] = COMPARED, **where: Any) -> "Figure":
        """Metrics against L0, a line for every architecture; a row for each data set.

        Args:
            metrics: measured ones.
            where: coordinates that leave one value on every axis but dataset, seed, architecture
                and l1 or k.

        Raises:
            ValueError: when they do not, and for an unknown metric.
        """
        return _pictures().architectures(self, metrics, **where)


def _pictures() -> Any:
    """`saejax.results.pictures`, loaded where it is used: matplotlib takes half a second."""
    from saejax.results import pictures

    return pictures
