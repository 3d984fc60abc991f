"""Claims of a text, answered with numbers: the verdict, the row, and the arrays of a sweep.

A row holds a claim, our mean over seeds with its standard deviation, and whether the claim holds.
Every row is judged alone, by figures of single seeds. SAEs of one seed share their true features,
so differences are taken within a seed. SAEs frozen as not finite are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Shaped

from saejax.core.stats import half_interval, mean_and_spread
from saejax.core.table import Table
from saejax.results.axes import SAME
from saejax.results.result import Result

Side = Literal["above", "below"]


def verdict(
    figures: Float[np.ndarray, " seeds"],
    claimed: Side,
    limit: Float[np.ndarray, " seeds"] | float = 0.0,
    chosen_from: int = 1,
) -> dict[str, Any]:
    """Mean of a figure over seeds, and whether it lies on the claimed side of a limit.

    With d_s the distance of seed s from its limit, counted positive on the claimed side, m its mean
    and sd its standard deviation (divisor n - 1), the 95 % interval of the mean is
    `m +- t(0.975, n - 1) sd / sqrt(n)` with Student's t. The claim

    holds          where the whole interval is above 0
    does not hold  where none of it is
    unclear        otherwise

    One seed has no interval: the sign of d decides, and the answer ends in "(one seed)". Seeds that
    agree exactly have an interval of width 0, so an effect of exactly 0 does not hold.

    The best of several settings, chosen by the very numbers that are judged, is on average better
    here than on new seeds, and the interval does not know it. The answer then ends in "(best of N,
    chosen afterwards)": it is about these seeds and no test.

    Args:
        figures: one a seed; what is not finite is left out.
        claimed: the side of the limit on which the text puts the figure.
        limit: one number, or one a seed.
        chosen_from: how many settings the judged one was chosen from by these numbers.

    Returns:
        `mean` of the figures; `sd`, their standard deviation (divisor n - 1, NaN for one seed);
        `seeds`, how many there were; `answer`.

    Raises:
        ValueError: for another side, or a choice from fewer than one.
    """
    if claimed not in get_args(Side):
        raise ValueError(f"claimed: got {claimed!r}, allowed: {', '.join(get_args(Side))}")
    if chosen_from < 1:
        raise ValueError(f"chosen_from: got {chosen_from}, allowed: 1 or more")
    figures = np.asarray(figures, float)
    distance = figures - limit if claimed == "above" else limit - figures
    kept = np.isfinite(distance)
    mean, sd = mean_and_spread(figures[kept])
    n = int(kept.sum())
    if n == 0:
        answer = "not measured: no seed has a value"
    else:
        m, half = float(distance[kept].mean()), half_interval(distance[kept]) if n > 1 else 0.0
        answer = "holds" if m > half else "does not hold" if m <= -half else "unclear"
        notes = ["one seed"] if n == 1 else []
        if chosen_from > 1:
            notes.append(f"best of {chosen_from}, chosen afterwards")
        answer += f" ({', '.join(notes)})" if notes else ""
    return {"mean": mean, "sd": sd, "seeds": n, "answer": answer}


RARITY = "rare features are represented worse"
RANKS = "rank correlation of firing probability and best cosine"


# Columns that every table of claims ends with.
JUDGED = ("measure", "claimed", "mean", "sd", "seeds", "answer")


def table_of(rows: Iterable[Mapping[str, Any]], *columns: str) -> Table:
    """Rows of claims with these columns, where the figure of the text is called `published`."""
    named = [{**row, "published": row["published_at_d_in_256"]} for row in rows]
    return Table([{name: row.get(name) for name in columns} for row in named])


class Claim(NamedTuple):
    """What the rows of one claim share.

    Attributes:
        claim: in words.
        data: the data set, or the two of a difference.
        variant: lr and resample of the SAEs, where they are swept; None where no SAE is judged.
        published: figures of the text; its data have 256 dimensions, whatever ours have.
    """

    claim: str
    data: str
    variant: dict[str, Any]
    published: str = ""

    def row(
        self,
        measure: str,
        figures: Float[np.ndarray, " seeds"],
        claimed: Side,
        limit: Float[np.ndarray, " seeds"] | float = 0.0,
        limit_in_words: str = "",
        details: str = "",
        chosen_from: int = 1,
    ) -> dict[str, Any]:
        """A row with its answer.

        Args:
            measure: what the figures are.
            figures: as in `verdict`, and so are claimed, limit and chosen_from.
            limit_in_words: shown for the limit where it is one a seed.
            details: what else was looked at; shown where the claim does not hold or is unclear.
        """
        outcome = verdict(figures, claimed, limit, chosen_from)
        shown = details if outcome["answer"].startswith(("does not hold", "unclear")) else ""
        side = f"{claimed} {limit_in_words or f'{limit:g}'}"
        return self.unmeasured("") | {
            "measure": measure,
            "claimed": side,
            **outcome,
            "details": shown,
        }

    def unmeasured(self, needs: str) -> dict[str, Any]:
        """A row without figures that says what it would take."""
        head = {"claim": self.claim, "data": self.data, **self.variant}
        nothing = {"measure": "", "claimed": "", "mean": np.nan, "sd": np.nan, "seeds": 0}
        answer = {"answer": f"not measured: needs {needs}"}
        return head | nothing | answer | {"published_at_d_in_256": self.published, "details": ""}


def check_tables(
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    keys: Mapping[str, Sequence[str]],
    several: Sequence[str] = (),
) -> None:
    """Refuses rows that do not say what they are of, and two of the same.

    Args:
        tables: rows by name.
        keys: what a row of each table is of.
        several: tables in which several rows may be of the same.

    Raises:
        ValueError: naming the table.
    """
    for name, of in keys.items():
        seen, words = set(), ", ".join(of)
        for row in tables.get(name, ()):
            for key in of:
                if row.get(key) is None:
                    raise ValueError(f"{name}: got a row without {key}, allowed: {words}")
            cell = tuple(row[key] for key in of)
            if cell in seen and name not in several:
                raise ValueError(f"{name}: got {cell} twice, allowed: each {words} once")
            seen.add(cell)


def listed(what: str, axis: str, at: Iterable[float], values: Iterable[float]) -> str:
    """Figures along an axis as text, without those that have no value."""
    pairs = zip((f"{x:,}" if isinstance(x, int) else f"{x:.3g}" for x in at), values, strict=True)
    figures = ", ".join(f"{value:.3g} at {x}" for x, value in pairs if np.isfinite(value))
    return f"{what}, by {axis}: {figures}"


def mean(values: Any) -> float:
    """Mean of all values that are finite; NaN where none is."""
    return mean_and_spread(np.ravel(values))[0]


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
        """The setting of the best mean MMCS among some ratios; None where none trained."""
        mmcs, _ = mean_and_spread(self.final("mmcs_true_to_dict"))
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
    return mean_and_spread(values.reshape(len(values), -1).T)[0]
