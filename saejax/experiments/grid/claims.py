"""The claims that a sweep over ratio and l1 can answer alone."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from saejax.core.stats import mean_and_spread
from saejax.core.table import Table
from saejax.experiments.common.claims import RANKS, RARITY, Claim, Side, View, over_cells, verdict
from saejax.experiments.grid import published
from saejax.results.result import Result

# From which ratio on a dictionary counts as oversized, and up to which as appropriately sized.
OVERSIZED, APPROPRIATE = 4.0, 2.0
# Dead latents gained in the second half of training, in percent of d_sae, that divide a number that
# still grows from one that has settled.
SETTLED = 1.0
_METRICS = {
    "mse": "mse",
    "fvu": "fvu (unexplained share of the variance)",
    "mmcs_true_to_dict": "MMCS",
}


def of_grid(result: Result) -> Table:
    """The claims that a sweep over ratio and l1 can answer alone.

    Columns: claim, data, lr and resample where they are swept, measure, claimed (where the claim
    puts the measure), mean, sd and seeds of the measure, answer, published_at_d_in_256 (a figure of
    the text, where it gives one) and details (what else was looked at, where the claim does not
    hold or is unclear). A row whose SAEs the sweep lacks says so.

    Unlearning is `sum unlearned / sum learned` over evaluations and SAEs: a mean of the SAEs' own
    quotients would be ruled by oversized ones in which one or two features flicker at the
    threshold.

    Dead latents: the text has their number "grow constantly" in oversized dictionaries and stay
    level in the others, so the figure is what the second half of training adds, in percent of
    d_sae, on either side of one limit, `SETTLED`.

    MMCS of the best SAEs is that of settings chosen by the MMCS that is judged, and their answers
    say so (see `saejax.experiments.common.claims`). The SAE whose rank correlation is judged is
    chosen by another measure, its MMCS.

    Args:
        result: of a sweep; without known true features the table is empty.
    """
    if "mmcs_true_to_dict" not in result.final:
        return Table([])
    only = result.coords["architecture"][0]
    variants = [
        where
        for where in result.variants
        if published.is_published(result.run, where.get("architecture", only))
    ]
    rows = []
    views = [View(result, name, where) for where in variants for name in result.coords["dataset"]]
    for part in (_unlearning, _dead_latents):
        rows += [row for view in views for row in part(view)]
    rows += [row for where in variants for row in _correlation(result, where)]
    rows += [row for view in views for row in _rarity(view)]
    return Table(rows)


def _unlearning(view: View) -> Iterator[dict[str, Any]]:
    claim = Claim("undersized dictionaries unlearn features", view.dataset, view.where)
    small = view.ratios < 1
    if small.all() or not small.any():
        yield claim.unmeasured("ratios below 1 and from 1 on")
        return
    learned, unlearned = view.final("learned"), view.final("unlearned")

    def share(ratios: Any) -> np.ndarray:
        lost, won = (np.nansum(a[:, ratios], axis=(1, 2)) for a in (unlearned, learned))
        return np.divide(lost, won, out=np.full(len(won), np.nan), where=won > 0)

    each = np.stack([share([i]) for i in range(len(small))], axis=1)
    measure, sides = "times unlearned per time learned", "ratios below 1 minus the others"
    details = view.by_ratio(measure, each)
    yield claim.row(f"{measure}: {sides}", share(small) - share(~small), "above", details=details)
    measure = "times an SAE unlearned a feature"
    figures = over_cells(unlearned[:, small]) - over_cells(unlearned[:, ~small])
    details = view.by_ratio(measure, unlearned)
    yield claim.row(f"{measure}: {sides}", figures, "above", details=details)


def _dead_latents(view: View) -> Iterator[dict[str, Any]]:
    steps, dead = view.result.steps, view.result.history["dead_latents"]
    half = int(np.searchsorted(steps, steps[-1] / 2))
    gain = 100 * view.cells(dead[-1] - dead[half]) / np.array(view.result.d_sae)[:, None]
    judged: tuple[tuple[Side, str, float, float], ...] = (
        ("above", "oversized dictionaries keep gaining", OVERSIZED, np.inf),
        ("below", "appropriately sized dictionaries stop gaining", 1, APPROPRIATE),
    )
    for side, text, low, high in judged:
        claim = Claim(f"{text} dead latents", view.dataset, view.where)
        members = (view.ratios >= low) & (view.ratios <= high)
        words = f"from {low:g} on" if high == np.inf else f"{low:g} to {high:g}"
        if not members.any():
            yield claim.unmeasured(f"ratios {words}")
        elif half == len(steps) - 1:
            yield claim.unmeasured("an evaluation halfway")
        else:
            gained = "dead latents gained in the second half of training, % of d_sae"
            measure = f"{gained}, ratios {words}"
            figures, details = over_cells(gain[:, members]), view.by_ratio("gain", gain)
            yield claim.row(measure, figures, side, SETTLED, details=details)


def _pairs(views: Sequence[View]) -> list[tuple[View, View]]:
    """Correlated data sets, each with an uncorrelated one of the same settings."""

    def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return all(a[k] == b[k] for k in ("d_in", "n_features", "avg_active", "feature_decay"))

    parts: dict[bool, list[View]] = {True: [], False: []}
    for view in views:
        if view.synthetic:
            parts[view.synthetic["kind"] == "uncorrelated"].append(view)
    return [(a, b) for a, b in product(parts[False], parts[True]) if same(a.synthetic, b.synthetic)]


def _correlation(result: Result, where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    better, lower = "correlated data reconstruct better", "correlated data give lower MMCS"
    names = result.coords["dataset"]
    pairs = _pairs([View(result, name, where) for name in names])
    if not pairs:
        for text in (better, lower):
            claim = Claim(text, ", ".join(names), where)
            yield claim.unmeasured("correlated and uncorrelated data with the same settings")
    for a, b in pairs:
        cells = {name: a.final(name) - b.final(name) for name in _METRICS}
        figures = {name: over_cells(values) for name, values in cells.items()}
        words = {name: f"{text}, mean over SAEs" for name, text in _METRICS.items()}
        claim = Claim(better, f"{a.dataset} minus {b.dataset}", where)
        for name, other in (("mse", "fvu"), ("fvu", "mse")):
            details = _beside(cells[name], other, verdict(figures[other], "below"))
            yield claim.row(words[name], figures[name], "below", details=details)
        claim, name = claim._replace(claim=lower), "mmcs_true_to_dict"
        best = [view.best() for view in (a, b)]
        if best[0] and best[1]:
            ahead = a.final(name)[:, *best[0].at] - b.final(name)[:, *best[1].at]
            n = max(best[0].chosen_from, best[1].chosen_from)
            details = _beside(cells[name], "best SAEs", verdict(ahead, "below", chosen_from=n))
            yield claim.row(words[name], figures[name], "below", details=details)
            details = _beside(cells[name], "mean over SAEs", verdict(figures[name], "below"))
            measure = f"MMCS of the best SAEs ({a.called(best[0])} minus {b.called(best[1])})"
            yield claim.row(measure, ahead, "below", details=details, chosen_from=n)
        else:
            yield claim.unmeasured("a trained SAE on both data sets")


def _beside(cells: np.ndarray, name: str, other: dict[str, Any]) -> str:
    """What else bears on a claim to be below 0: settings [seed, ratio, l1], another measure."""
    mean, _ = mean_and_spread(cells)
    settings = f"below 0 at {(mean < 0).sum()} of {np.isfinite(mean).sum()} settings (ratio, l1)"
    return f"{settings}; {name} {other['mean']:+.2g}: {other['answer']}"


def _rarity(view: View) -> Iterator[dict[str, Any]]:
    claim = Claim(RARITY, view.dataset, view.where)
    if not view.synthetic:
        yield claim.unmeasured("known firing probabilities")
    elif view.synthetic["feature_decay"] == 1:
        yield claim.unmeasured("features that are not equally common")
    elif view.result.best_cosine is None:
        yield claim.unmeasured("a finished run")
    else:
        cosine = view.cells(view.result.best_cosine[-1])
        ranks = np.apply_along_axis(_with_commonness, -1, cosine)
        best = view.best(view.ratio_one)
        if best is None:
            yield claim.unmeasured("a trained SAE of ratio 1")
        else:
            i, j = best.at
            measure = f"SAE of best MMCS at ratio 1 (l1 {view.l1[j]:.2g}): {RANKS}"
            details = view.by_l1("rank correlation at ratio 1", ranks[:, i])
            yield claim.row(measure, ranks[:, i, j], "above", details=details)
        details = view.by_ratio("rank correlation", ranks)
        yield claim.row(f"mean over SAEs: {RANKS}", over_cells(ranks), "above", details=details)


def _with_commonness(cosine: np.ndarray) -> float:
    """Spearman's correlation of cosines with the firing probability, which falls with the index."""
    if not np.isfinite(cosine).all() or np.ptp(cosine) == 0:
        return np.nan
    return float(stats.spearmanr(-np.arange(cosine.size), cosine).statistic)  # pyright: ignore
