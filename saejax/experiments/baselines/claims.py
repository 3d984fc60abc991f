"""The claims about baseline methods, and about SAEs against k-means."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from saejax.core.table import Table
from saejax.experiments.baselines import published
from saejax.experiments.common.claims import RANKS, RARITY, Claim, View, check_tables, listed, mean
from saejax.experiments.grid import published as grid_published
from saejax.results.result import Result

# MMCS has levelled off when a doubling of the data changes it by less than this, or than that share
# of what the first doubling added.
LEVEL, LEVEL_SHARE = 0.005, 0.25

METHODS = {"kmeans": "k-means", "kmedoids": "k-medoids", "pca": "PCA", "ica": "ICA"}
KEY = ("dataset", "method", "n_samples", "seed")
COLUMNS = (*KEY, "mmcs", "mmcs_either_sign", "rarity_correlation")
PUBLISHED_LEVEL = {"uncorrelated": "about 0.55 up to 409,600 samples"}
_Sizes = dict[int, dict[int, float]]


def of_baselines(fits: Sequence[Mapping[str, Any]], result: Result | None = None) -> Table:
    """The claims about baseline methods, and about SAEs against k-means.

    Whether k-means beats PCA and ICA is answered twice. The sign of a principal axis or of an
    independent component is arbitrary while that of a true feature is not, so MMCS counts as missed
    what these two find pointing the wrong way. The second answer is on MMCS where every direction
    may be turned around, those of k-means too.

    Args:
        fits: a row a fit, with `dataset`, `method`, `n_samples`, `seed`, `mmcs` (of true features
            to the method's directions), `mmcs_either_sign` and `rarity_correlation`, as
            `saejax.analysis.baseline_fits.measure` has them; NaN or None where there is no value.
        result: a sweep on the same data and seeds; at ratio 1 an SAE has as many directions as the
            features that k-means is given to find. The SAE that is compared is the one whose mean
            over seeds is best, so it is chosen with the numbers that are then judged, and the
            answer says so (see `saejax.experiments.common.claims`).

    Returns:
        A table as that of `of_grid`, whose lr and resample columns only SAEs fill.

    Raises:
        ValueError: when a row lacks a column or two rows are of the same fit.
    """
    for row in fits:
        for name in COLUMNS:
            if name not in row:
                raise ValueError(f"fits: got a row without {name}, allowed: {', '.join(COLUMNS)}")
    check_tables({"fits": fits}, {"fits": KEY})
    variants = result.variants if result is not None else [{}]
    blank = dict.fromkeys(variants[0])
    rows: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(row["dataset"] for row in fits):
        of_data = [row for row in fits if row["dataset"] == dataset]
        for other in ("pca", "ica"):
            rows += _kmeans_against(other, dataset, of_data, blank)
        kmeans = _by_size(of_data, "kmeans", "mmcs")
        rows.append(_levels_off(dataset, kmeans, blank))
        for where in variants:
            rows += _saes_against(kmeans, dataset, result, where)
        for method in dict.fromkeys(row["method"] for row in of_data):
            sizes = _by_size(of_data, method, "rarity_correlation")
            rows.append(_rarity(Claim(RARITY, dataset, blank), method, sizes))
    return Table(rows)


def _by_size(fits: Sequence[Mapping[str, Any]], method: str, key: str) -> _Sizes:
    """n_samples -> seed -> value of one method, in the order of size, without what failed."""
    out: _Sizes = {}
    for row in sorted(fits, key=lambda row: row["n_samples"]):
        if row["method"] == method and row[key] is not None and np.isfinite(row[key]):
            out.setdefault(int(row["n_samples"]), {})[row["seed"]] = row[key]
    return out


def _published(dataset: str, *methods: str) -> str:
    known = published.BASELINES.get(dataset, {})
    return ", ".join(f"{METHODS.get(m, m)} {known[m]:g}" for m in methods if m in known)


def _kmeans_against(
    other: str, dataset: str, fits: Sequence[Mapping[str, Any]], blank: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    name = METHODS[other]
    # The text does not speak of signs, so its figures stand beside the plain measure alone.
    for key, words, text in (
        ("mmcs", "", _published(dataset, "kmeans", other)),
        ("mmcs_either_sign", ", either sign", ""),
    ):
        claim = Claim(f"k-means beats {name}", dataset, blank, text)
        kmeans, theirs = (_by_size(fits, method, key) for method in ("kmeans", other))
        gaps = {}
        for n, ours in kmeans.items():
            if seeds := [seed for seed in ours if seed in theirs.get(n, {})]:
                gaps[n] = np.array([ours[seed] - theirs[n][seed] for seed in seeds])
        if not gaps:
            yield claim.unmeasured(f"fits of k-means and {name} of one size and seed")
            return
        measure = f"MMCS of k-means minus that of {name}, {max(gaps):,} samples{words}"
        details = listed("lead", "samples", gaps, map(mean, gaps.values()))
        yield claim.row(measure, gaps[max(gaps)], "above", details=details)


def _levels_off(dataset: str, kmeans: _Sizes, blank: dict[str, Any]) -> dict[str, Any]:
    text = PUBLISHED_LEVEL.get(dataset, "")
    claim = Claim("k-means levels off with data size", dataset, blank, text)
    if len(kmeans) < 3:
        return claim.unmeasured("k-means fits of three sizes")
    sizes, seeds = list(kmeans), dict.fromkeys(seed for fits in kmeans.values() for seed in fits)
    mmcs = np.array([[kmeans[n].get(seed, np.nan) for seed in seeds] for n in sizes])
    gains = np.diff(mmcs, axis=0) / np.diff(np.log2(sizes))[:, None]
    return claim.row(
        f"size of the change of MMCS per doubling, {sizes[-2]:,} to {sizes[-1]:,} samples",
        np.abs(gains[-1]),
        "below",
        np.maximum(LEVEL_SHARE * gains[0], LEVEL),
        f"{LEVEL:g}, or {LEVEL_SHARE:g} of the first gain per doubling if that is more",
        listed("gain per doubling", "samples reached", sizes[1:], map(mean, gains)),
    )


def _saes_against(
    kmeans: _Sizes, dataset: str, result: Result | None, where: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    theirs = _published(dataset, "kmeans")
    saes = grid_published.grid()["maps"].get(dataset, {}).get("mmcs_true_to_dict")
    text = theirs if saes is None else f"best SAE {np.nanmax(saes):.2g}, {theirs}"
    claim = Claim("SAEs with the right l1 beat k-means", dataset, where, text)
    if result is None:
        yield claim.unmeasured("a grid run")
    elif dataset not in result.coords["dataset"] or "mmcs_true_to_dict" not in result.final:
        yield claim.unmeasured("a grid run on this data with its true features")
    elif not kmeans:
        yield claim.unmeasured("fits of k-means")
    else:
        size, view = max(kmeans), View(result, dataset, where)
        baseline = np.array([kmeans[size].get(seed, np.nan) for seed in result.coords["seed"]])
        ahead = view.final("mmcs_true_to_dict") - baseline[:, None, None]
        for words, among in (("k-means' size", view.ratio_one), ("any size", True)):
            best = view.best(among)
            if best is None:
                yield claim.unmeasured(f"a trained SAE of {words}")
                continue
            i, j = best.at
            measure = (
                f"MMCS of the best SAE of {words} ({view.called(best)}) minus that of k-means, "
                f"{size:,} samples"
            )
            details = view.by_l1(f"lead at ratio {view.ratios[i]:g}", ahead[:, i])
            yield claim.row(
                measure, ahead[:, i, j], "above", details=details, chosen_from=best.chosen_from
            )


def _rarity(claim: Claim, method: str, sizes: _Sizes) -> dict[str, Any]:
    method = METHODS.get(method, method)
    if not sizes:
        return claim.unmeasured(f"a rank correlation of {method}")
    means = [mean(list(seeds.values())) for seeds in sizes.values()]
    figures = np.array(list(sizes[max(sizes)].values()))
    measure = f"{method}, {max(sizes):,} samples: {RANKS}"
    details = listed("rank correlation", "samples", sizes, means)
    return claim.row(measure, figures, "above", details=details)
