"""What the texts of the grid study claim, answered with numbers.

A row holds a claim, our figure with its spread over seeds, and whether the claim holds. Figures are
computed for every seed on its own and judged by `verdict`, each row alone. Cells of one seed share
their true features, so differences are taken within a seed. Cells frozen as not finite are left out.

Source: "Towards a Probabilistic Disentanglement of Transformer Activations", part 2.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from scipy import stats

from saejax import plots, published
from saejax.result import Result
from saejax.sweep import SAME
from saejax.table import Table

Side = Literal["above", "below"]
# From which ratio on a dictionary counts as oversized, and up to which as appropriately sized.
OVERSIZED, APPROPRIATE = 4.0, 2.0
# Dead latents gained in the second half of training, in percent of d_sae, that divide a number that
# still grows from one that has settled.
SETTLED = 1.0
# MMCS has levelled off when a doubling of the data adds less than this, or than that share of what
# the first doubling added.
LEVEL, LEVEL_SHARE = 0.005, 0.25

METHODS = {"kmeans": "k-means", "kmedoids": "k-medoids", "pca": "PCA", "ica": "ICA"}
COLUMNS = ("dataset", "method", "n_samples", "seed", "mmcs", "rarity_correlation")
PUBLISHED_LEVEL = {"uncorrelated": "about 0.55 up to 409,600 samples"}
RARITY = "a feature's representedness falls with its rarity"
RANKS = "rank correlation of firing probability and best cosine"
_Sizes = dict[int, dict[int, float]]


def verdict(
    figures: Float[np.ndarray, " seeds"],
    claimed: Side,
    limit: Float[np.ndarray, " seeds"] | float = 0.0,
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

    Args:
        figures: one a seed; what is not finite is left out.
        claimed: the side of the limit on which the text puts the figure.
        limit: one number, or one a seed.

    Returns:
        `figure`, the mean of the figures; `spread`, their standard deviation (divisor n - 1, NaN for
        one seed); `seeds`, how many there were; `answer`.

    Raises:
        ValueError: for another side.
    """
    if claimed not in get_args(Side):
        raise ValueError(f"claimed: got {claimed!r}, allowed: {', '.join(get_args(Side))}")
    figures = np.asarray(figures, float)
    distance = figures - limit if claimed == "above" else limit - figures
    kept = np.isfinite(distance)
    figure, spread = plots.mean_and_spread(figures[kept])
    n = int(kept.sum())
    mean, sd = plots.mean_and_spread(distance[kept])
    if n == 0:
        answer = "not measured: no seed has a value"
    elif n == 1:
        answer = f"{'holds' if mean > 0 else 'does not hold'} (one seed)"
    else:
        half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
        answer = "holds" if mean > half else "does not hold" if mean <= -half else "unclear"
    return {"figure": figure, "spread": spread, "seeds": n, "answer": answer}


def of_grid(result: Result) -> Table:
    """The claims that a sweep over ratio and l1 can answer alone.

    Columns: claim, data, lr and resample where they are swept, measure, figure, spread, seeds,
    answer, published (a figure of the text, where it gives one) and tried (what else was looked at,
    where the claim does not hold or is unclear). A row whose cells the sweep lacks says so.

    Unlearning is `sum unlearned / sum learned` over evaluations and cells: a mean of the cells' own
    quotients would be ruled by oversized cells in which one or two features flicker at the threshold.

    Dead latents: the text has their number "grow constantly" in oversized dictionaries and stay level
    in the others, so the figure is what the second half of training adds, in percent of d_sae, on
    either side of one limit, `SETTLED`.

    Args:
        result: of a sweep; without known true features the table is empty.
    """
    if "mmcs_true_to_dict" not in result.final:
        return Table([])
    variants, rows = _variants(result), []
    views = [_View(result, name, where) for where in variants for name in result.coords["dataset"]]
    for part in (_unlearning, _dead_latents):
        rows += [row for view in views for row in part(view)]
    rows += [row for where in variants for row in _correlation(result, where)]
    rows += [row for view in views for row in _rarity(view)]
    return Table(rows)


def of_baselines(fits: Sequence[Mapping[str, Any]], result: Result | None = None) -> Table:
    """The claims about baseline methods, and about SAEs against k-means.

    Args:
        fits: a row a fit, with `dataset`, `method`, `n_samples`, `seed`, `mmcs` (of true features to
            the method's directions) and `rarity_correlation` (Spearman's, of firing probability and
            best cosine of the features); NaN or None where there is no value.
        result: a sweep on the same data and seeds; at ratio 1 an SAE has as many directions as the
            features that k-means is given to find. The cell that is compared is the one whose mean
            over seeds is best, so it is chosen with the numbers that are then judged.

    Returns:
        A table as that of `of_grid`, whose lr and resample columns only SAEs fill.

    Raises:
        ValueError: when a row lacks a column or two rows are of the same fit.
    """
    _check(fits)
    variants = _variants(result) if result is not None else [{}]
    blank = dict.fromkeys(variants[0])
    rows: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(row["dataset"] for row in fits):
        own = [row for row in fits if row["dataset"] == dataset]
        methods = list(dict.fromkeys(row["method"] for row in own))
        mmcs = {method: _by_size(own, method, "mmcs") for method in ("kmeans", "pca", "ica")}
        for other in ("pca", "ica"):
            rows.append(_kmeans_against(other, dataset, mmcs, blank))
        rows.append(_levels_off(dataset, mmcs["kmeans"], blank))
        for where in variants:
            rows += _saes_against(mmcs["kmeans"], dataset, result, where)
        for method in methods:
            sizes = _by_size(own, method, "rarity_correlation")
            rows.append(_rarity_of_fits(_Claim(RARITY, dataset, blank), method, sizes))
    return Table(rows)


class _Claim(NamedTuple):
    """What the rows of one claim share."""

    claim: str
    data: str
    variant: dict[str, Any]
    published: str = ""

    def row(
        self, measure: str, figures: Any, claimed: Side, limit: Any = 0.0, tried: str = ""
    ) -> dict[str, Any]:
        outcome = verdict(np.asarray(figures, float), claimed, limit)
        shown = tried if outcome["answer"].startswith(("does not hold", "unclear")) else ""
        return self._whole(measure, outcome, shown)

    def unmeasured(self, needs: str) -> dict[str, Any]:
        nothing = {"figure": np.nan, "spread": np.nan, "seeds": 0}
        return self._whole("", {**nothing, "answer": f"not measured: needs {needs}"}, "")

    def _whole(self, measure: str, outcome: dict[str, Any], tried: str) -> dict[str, Any]:
        head = {"claim": self.claim, "data": self.data, **self.variant, "measure": measure}
        return {**head, **outcome, "published": self.published, "tried": tried}


class _View(NamedTuple):
    """One data set of a sweep at one lr and resample."""

    result: Result
    dataset: str
    where: dict[str, Any]

    @property
    def ratios(self) -> np.ndarray:
        return np.array(self.result.coords["ratio"], float)

    @property
    def ratio_one(self) -> np.ndarray:
        return np.isclose(self.ratios, 1, rtol=SAME, atol=0)

    @property
    def synthetic(self) -> dict[str, Any]:
        """Description of a synthetic data set; empty for any other."""
        data = self.result.run.get("data", {}).get(self.dataset, {})
        return data if data.get("type") == "synthetic" else {}

    def cells(self, values: np.ndarray) -> np.ndarray:
        """[seed, ratio, l1, ...] out of [*shape, ...], NaN where the cell was frozen."""
        trained = self.result.final["frozen_at"] < 0
        trained = trained.reshape(*trained.shape, *[1] * (values.ndim - trained.ndim))
        chosen = np.ix_(*self.result.select(dataset=self.dataset, **self.where))
        return np.where(trained, values, np.nan).astype(float)[chosen][0, :, :, :, 0, 0]

    def final(self, metric: str) -> np.ndarray:
        return self.cells(self.result.final[metric])

    def best(self, among: np.ndarray | bool = True) -> tuple[int, int] | None:
        """Ratio and l1, as positions, of the best mean MMCS over seeds among some ratios."""
        mean, _ = plots.mean_and_spread(self.final("mmcs_true_to_dict"))
        mean[~np.broadcast_to(among, len(mean))] = np.nan
        if not np.isfinite(mean).any():
            return None
        i, j = np.unravel_index(np.nanargmax(mean), mean.shape)
        return int(i), int(j)

    def called(self, at: tuple[int, int]) -> str:
        return f"ratio {self.ratios[at[0]]:g}, l1 {self.result.coords['l1'][at[1]]:.2g}"

    def by_ratio(self, values: np.ndarray) -> str:
        """Mean of [seed, ratio, ...] at each ratio."""
        return _listed("ratio", self.ratios, map(_mean, np.moveaxis(values, 1, 0)))

    def by_l1(self, values: np.ndarray) -> str:
        """Mean of [seed, l1] at each l1."""
        return _listed("l1", self.result.coords["l1"], map(_mean, values.T))


def _variants(result: Result) -> list[dict[str, Any]]:
    """Every combination of the swept ones of lr and resample; one without a name where none is."""
    swept = {name: result.coords[name] for name in ("lr", "resample") if len(result.coords[name]) > 1}
    return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]


def _listed(axis: str, at: Iterable[float], values: Iterable[float]) -> str:
    """Figures along an axis as text."""
    pairs = zip((f"{x:,}" if isinstance(x, int) else f"{x:.3g}" for x in at), values, strict=True)
    return f"by {axis}: " + ", ".join(f"{v:.3g} at {x}" for x, v in pairs if np.isfinite(v))


def _mean(values: Any) -> float:
    return plots.mean_and_spread(np.ravel(values))[0]


def _over_cells(values: np.ndarray) -> np.ndarray:
    """Mean over all axes but the first, which is that of the seeds, where there is a value."""
    return plots.mean_and_spread(values.reshape(len(values), -1).T)[0]


def _unlearning(view: _View) -> Iterator[dict[str, Any]]:
    claim = _Claim("undersized dictionaries unlearn features", view.dataset, view.where)
    small = view.ratios < 1
    if small.all() or not small.any():
        yield claim.unmeasured("ratios below 1 and from 1 on")
        return
    learned, unlearned = view.final("learned"), view.final("unlearned")

    def share(ratios: Any) -> np.ndarray:
        lost, won = (np.nansum(a[:, ratios], axis=(1, 2)) for a in (unlearned, learned))
        return np.divide(lost, won, out=np.full(len(won), np.nan), where=won > 0)

    each = np.stack([share([i]) for i in range(len(small))], axis=1)
    measure = "times unlearned per time learned, ratios below 1 minus the others"
    yield claim.row(measure, share(small) - share(~small), "above", tried=view.by_ratio(each))
    measure = "times a cell unlearned a feature, ratios below 1 minus the others"
    figures = _over_cells(unlearned[:, small]) - _over_cells(unlearned[:, ~small])
    yield claim.row(measure, figures, "above", tried=view.by_ratio(unlearned))


def _dead_latents(view: _View) -> Iterator[dict[str, Any]]:
    steps, dead = view.result.steps, view.result.history["dead_latents"]
    half = int(np.searchsorted(steps, steps[-1] / 2))
    gain = 100 * view.cells(dead[-1] - dead[half]) / np.array(view.result.d_sae)[:, None]
    sides: tuple[Side, Side] = ("above", "below")
    for side, text, low, high in zip(
        sides, ("oversized dictionaries keep gaining", "appropriately sized dictionaries stop gaining"),
        (OVERSIZED, 1), (np.inf, APPROPRIATE), strict=True,
    ):  # fmt: skip
        claim = _Claim(f"{text} dead latents", view.dataset, view.where)
        members = (view.ratios >= low) & (view.ratios <= high)
        words = f"from {low:g} on" if high == np.inf else f"{low:g} to {high:g}"
        if not members.any():
            yield claim.unmeasured(f"ratios {words}")
        elif half == len(steps) - 1:
            yield claim.unmeasured("an evaluation halfway")
        else:
            measure = f"gain in the second half of training, % of d_sae, ratios {words}"
            yield claim.row(
                f"{measure}; claimed {side} {SETTLED:g}", _over_cells(gain[:, members]), side, SETTLED,
                view.by_ratio(gain),
            )  # fmt: skip


def _pairs(views: Sequence[_View]) -> list[tuple[_View, _View]]:
    """Correlated data sets, each with an uncorrelated one of the same settings."""

    def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return all(a[k] == b[k] for k in ("d_in", "n_features", "avg_active", "feature_decay"))

    parts: dict[bool, list[_View]] = {True: [], False: []}
    for view in views:
        if view.synthetic:
            parts[view.synthetic["kind"] == "uncorrelated"].append(view)
    return [(a, b) for a, b in product(parts[False], parts[True]) if same(a.synthetic, b.synthetic)]


def _correlation(result: Result, where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    better, lower = "correlated data reconstruct better", "correlated data give lower MMCS"
    names = result.coords["dataset"]
    pairs = _pairs([_View(result, name, where) for name in names])
    if not pairs:
        for text in (better, lower):
            claim = _Claim(text, ", ".join(names), where)
            yield claim.unmeasured("correlated and uncorrelated data with the same settings")
    for a, b in pairs:
        cells = {name: a.final(name) - b.final(name) for name in ("mse", "fvu", "mmcs_true_to_dict")}
        mean = {name: _over_cells(values) for name, values in cells.items()}
        claim = _Claim(better, f"{a.dataset} minus {b.dataset}", where)
        for name, other in (("mse", "fvu"), ("fvu", "mse")):
            tried = _beside(cells[name], other, mean[other])
            yield claim.row(f"{name}, mean over cells", mean[name], "below", tried=tried)
        claim, metric = claim._replace(claim=lower), "mmcs_true_to_dict"
        at = [view.best() for view in (a, b)]
        if at[0] and at[1]:
            best = a.final(metric)[:, *at[0]] - b.final(metric)[:, *at[1]]
            tried = _beside(cells[metric], "at the best cells", best)
            yield claim.row("MMCS, mean over cells", mean[metric], "below", tried=tried)
            tried = _beside(cells[metric], "mean over cells", mean[metric])
            measure = f"MMCS of the best cells ({a.called(at[0])} minus {b.called(at[1])})"
            yield claim.row(measure, best, "below", tried=tried)
        else:
            yield claim.unmeasured("a trained SAE on both data sets")


def _beside(cells: np.ndarray, name: str, figures: np.ndarray) -> str:
    """What else bears on a claim to be below 0: the cells [seed, ratio, l1], and another measure."""
    mean, _ = plots.mean_and_spread(cells)
    other = verdict(figures, "below")
    return (
        f"below 0 in {(mean < 0).sum()} of {np.isfinite(mean).sum()} cells; {name} "
        f"{other['figure']:+.2g} ({other['answer']})"
    )


def _rarity(view: _View) -> Iterator[dict[str, Any]]:
    claim = _Claim(RARITY, view.dataset, view.where)
    if not view.synthetic:
        yield claim.unmeasured("known firing probabilities")
    elif view.synthetic["feature_decay"] == 1:
        yield claim.unmeasured("features that are not equally common")
    elif view.result.best_cosine is None:
        yield claim.unmeasured("a finished run")
    else:
        cosine = view.cells(view.result.best_cosine[-1])
        ranks = np.apply_along_axis(_with_commonness, -1, cosine)
        at = view.best(view.ratio_one)
        if at is None:
            yield claim.unmeasured("a trained SAE of ratio 1")
        else:
            own = ranks[:, at[0]]
            measure = f"SAE of best MMCS at ratio 1 (l1 {view.result.coords['l1'][at[1]]:.2g}): {RANKS}"
            yield claim.row(measure, own[:, at[1]], "above", tried=view.by_l1(own))
        measure = f"SAEs, mean over cells: {RANKS}"
        yield claim.row(measure, _over_cells(ranks), "above", tried=view.by_ratio(ranks))


def _with_commonness(cosine: np.ndarray) -> float:
    """Spearman's correlation of cosines with the firing probability, which falls with the index."""
    if not np.isfinite(cosine).all() or np.ptp(cosine) == 0:
        return np.nan
    return float(stats.spearmanr(-np.arange(cosine.size), cosine).statistic)  # pyright: ignore


def _check(fits: Sequence[Mapping[str, Any]]) -> None:
    seen = set()
    for row in fits:
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise ValueError(f"fits: got a row without {missing[0]}, allowed: {', '.join(COLUMNS)}")
        fit = tuple(row[name] for name in COLUMNS[:4])
        if fit in seen:
            raise ValueError(f"fits: got {fit} twice, allowed: each {', '.join(COLUMNS[:4])} once")
        seen.add(fit)


def _by_size(fits: Sequence[Mapping[str, Any]], method: str, key: str) -> _Sizes:
    """n_samples -> seed -> value of one method, in the order of size, without what failed."""
    out: _Sizes = {}
    for row in sorted(fits, key=lambda row: row["n_samples"]):
        if row["method"] == method and row[key] is not None and np.isfinite(row[key]):
            out.setdefault(int(row["n_samples"]), {})[row["seed"]] = row[key]
    return out


def _called(method: str) -> str:
    return METHODS.get(method, method)


def _published(dataset: str, *methods: str) -> str:
    known = published.BASELINES.get(dataset, {})
    return ", ".join(f"{_called(m)} {known[m]:g}" for m in methods if m in known)


def _kmeans_against(
    other: str, dataset: str, mmcs: Mapping[str, _Sizes], blank: dict[str, Any]
) -> dict[str, Any]:
    name = _called(other)
    claim = _Claim(f"k-means beats {name}", dataset, blank, _published(dataset, "kmeans", other))
    gaps = {}
    for n, ours in mmcs["kmeans"].items():
        theirs = mmcs[other].get(n, {})
        if pairs := [ours[seed] - theirs[seed] for seed in ours if seed in theirs]:
            gaps[n] = pairs
    if not gaps:
        return claim.unmeasured(f"fits of k-means and {name} of one size and seed")
    measure = f"MMCS of k-means minus {name}, {max(gaps):,} samples"
    tried = _listed("samples", gaps, map(_mean, gaps.values()))
    return claim.row(measure, gaps[max(gaps)], "above", tried=tried)


def _levels_off(dataset: str, kmeans: _Sizes, blank: dict[str, Any]) -> dict[str, Any]:
    text = PUBLISHED_LEVEL.get(dataset, "")
    claim = _Claim("k-means levels off with data size", dataset, blank, text)
    if len(kmeans) < 3:
        return claim.unmeasured("k-means fits of three sizes")
    sizes, seeds = list(kmeans), dict.fromkeys(seed for fits in kmeans.values() for seed in fits)
    mmcs = np.array([[kmeans[n].get(seed, np.nan) for seed in seeds] for n in sizes])
    gains = np.diff(mmcs, axis=0) / np.diff(np.log2(sizes))[:, None]
    measure = (
        f"size of the MMCS gain per doubling, {sizes[-2]:,} to {sizes[-1]:,} samples; claimed below "
        f"{LEVEL:g} or {LEVEL_SHARE:g} of the first gain"
    )
    limit = np.maximum(LEVEL_SHARE * gains[0], LEVEL)
    tried = _listed("samples", sizes[1:], map(_mean, gains))
    return claim.row(measure, np.abs(gains[-1]), "below", limit, tried)


def _saes_against(
    kmeans: _Sizes, dataset: str, result: Result | None, where: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    theirs = _published(dataset, "kmeans")
    saes = published.grid()["maps"].get(dataset, {}).get("mmcs_true_to_dict")
    text = theirs if saes is None else f"best SAE {np.nanmax(saes):.2g}, {theirs}"
    claim = _Claim("SAEs with the right l1 beat k-means", dataset, where, text)
    if result is None:
        yield claim.unmeasured("a grid run")
    elif dataset not in result.coords["dataset"] or "mmcs_true_to_dict" not in result.final:
        yield claim.unmeasured("a grid run on this data with its true features")
    elif not kmeans:
        yield claim.unmeasured("fits of k-means")
    else:
        size, view = max(kmeans), _View(result, dataset, where)
        baseline = np.array([kmeans[size].get(seed, np.nan) for seed in result.coords["seed"]])
        ahead = view.final("mmcs_true_to_dict") - baseline[:, None, None]
        for words, among in (("k-means' size", view.ratio_one), ("any size", True)):
            at = view.best(among)
            if at is None:
                yield claim.unmeasured(f"a trained SAE of {words}")
                continue
            measure = (
                f"MMCS of the best SAE of {words} ({view.called(at)}) minus k-means, {size:,} samples"
            )
            yield claim.row(measure, ahead[:, *at], "above", tried=view.by_l1(ahead[:, at[0]]))


def _rarity_of_fits(claim: _Claim, method: str, sizes: _Sizes) -> dict[str, Any]:
    if not sizes:
        return claim.unmeasured(f"a rank correlation of {_called(method)}")
    means = [_mean(list(seeds.values())) for seeds in sizes.values()]
    figures = list(sizes[max(sizes)].values())
    measure = f"{_called(method)}, {max(sizes):,} samples: {RANKS}"
    return claim.row(measure, figures, "above", tried=_listed("samples", sizes, means))
