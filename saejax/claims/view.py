"""One data set of a sweep, as arrays over seeds, ratios and l1."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from saejax import plots
from saejax.claims.row import listed, mean
from saejax.result import Result
from saejax.sweep import SAME


class Best(NamedTuple):
    """A setting, which is a ratio and an l1, that was chosen by its MMCS.

    Attributes:
        at: positions of its ratio and its l1.
        chosen_from: how many settings there were to choose from.
    """

    at: tuple[int, int]
    chosen_from: int


class View(NamedTuple):
    """One data set of a sweep at one lr and resample."""

    result: Result
    dataset: str
    where: dict[str, Any]

    @property
    def ratios(self) -> Float[np.ndarray, " ratio"]:
        """Ratios of the sweep."""
        return np.array(self.result.coords["ratio"], float)

    @property
    def l1(self) -> tuple[float, ...]:
        """Coefficients of the cells in question."""
        return self.result.sparsity(dataset=self.dataset, **self.where)[1]

    @property
    def ratio_one(self) -> Bool[np.ndarray, " ratio"]:
        """Which ratio is 1: as many latents as true features."""
        return np.isclose(self.ratios, 1, rtol=SAME, atol=0)

    @property
    def synthetic(self) -> dict[str, Any]:
        """Description of a synthetic data set; empty for any other."""
        data = self.result.run.get("data", {}).get(self.dataset, {})
        return data if data.get("type") == "synthetic" else {}

    def cells(self, values: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "seed ratio l1 ..."]:
        """[seed, ratio, l1, ...] out of [*shape, ...], NaN where the cell was frozen."""
        trained = self.result.final["frozen_at"] < 0
        trained = trained.reshape(*trained.shape, *[1] * (values.ndim - trained.ndim))
        finite = np.where(trained, values, np.nan).astype(float)
        return self.result.cut(finite, dataset=self.dataset, **self.where)

    def final(self, metric: str) -> Float[np.ndarray, "seed ratio l1"]:
        """A metric at the end of training, as `cells` has it."""
        return self.cells(self.result.final[metric])

    def best(self, among: Bool[np.ndarray, " ratio"] | bool = True) -> Best | None:
        """The setting of the best mean MMCS over seeds among some ratios; None where none trained."""
        mmcs, _ = plots.mean_and_spread(self.final("mmcs_true_to_dict"))
        mmcs[~np.broadcast_to(among, len(mmcs))] = np.nan
        if not np.isfinite(mmcs).any():
            return None
        i, j = np.unravel_index(np.nanargmax(mmcs), mmcs.shape)
        return Best((int(i), int(j)), int(np.isfinite(mmcs).sum()))

    def called(self, best: Best) -> str:
        """A setting in words."""
        i, j = best.at
        return f"ratio {self.ratios[i]:g}, l1 {self.l1[j]:.2g}"

    def by_ratio(self, what: str, values: Float[np.ndarray, "seed ratio ..."]) -> str:
        """Mean of [seed, ratio, ...] at each ratio, as text."""
        return listed(what, "ratio", self.ratios, map(mean, np.moveaxis(values, 1, 0)))

    def by_l1(self, what: str, values: Float[np.ndarray, "seed l1"]) -> str:
        """Mean of [seed, l1] at each l1, as text."""
        return listed(what, "l1", self.l1, map(mean, values.T))


def over_cells(values: Float[np.ndarray, "seed ..."]) -> Float[np.ndarray, " seed"]:
    """Mean over all axes but the first, which is that of the seeds, where there is a value."""
    return plots.mean_and_spread(values.reshape(len(values), -1).T)[0]
