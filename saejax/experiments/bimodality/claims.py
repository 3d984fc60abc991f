"""The claims about MCS between dictionaries of several sizes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from saejax.analysis.mcs import CLASSES, MaxCosine
from saejax.core.checks import check_whole
from saejax.core.table import Table
from saejax.experiments.common.claims import (
    JUDGED,
    Claim,
    Side,
    check_tables,
    listed,
    mean,
    over_cells,
    table_of,
)
from saejax.experiments.language.workdirs import by_seed

# Figures of "[Research Update] Sparse Autoencoder features are bimodal".
PEAKS = (0.3, 1.0)
# Distances of learned from random MCS are within this factor of those between random ones.
FACTOR = 2.0
# A dictionary with so many low-MCS latents is left out of the comparison with random ones.
TOO_FEW = 7
# Shares of high MCS: above the one for 256 latents, below the other for 4096.
MOST, FEW = 0.9, 0.25

# Limits of ours, where the text gives words.
SIGNIFICANT = 0.05
NEAR = 0.05
MUCH = 2.0
HIGH_CORRELATION = 0.7
SAME_SIDE, CLUSTER = 0.9, 0.05
MAJORITY = 0.5

COLUMNS = ("claim", "published", "l1", *JUDGED, "details")
_AGAINST_LARGEST = ("l1", "d_sae", "against", "seed")
# The tables of the study, and what a row of each is of.
KEYS = {
    "cells": ("l1", "d_sae", "seed"),
    **dict.fromkeys(("modes", "split", "emd", "law", "explanation"), _AGAINST_LARGEST),
    "correlation": ("l1", "d_sae", "larger", "largest", "seed"),
}
EXPLANATIONS = {
    "dead": "low-MCS latents are dead",
    "noise": "low-MCS latents account for noise",
    "real": "low-MCS latents are real, but not found by the larger dictionary",
}
_Row = Mapping[str, Any]


def of_bimodality(tables: Mapping[str, Sequence[Mapping[str, Any]]], d_in: int) -> Table:
    """The claims about MCS between dictionaries of several sizes.

    Columns: claim, published (what the text says, of dictionaries of 256 to 8192 latents in 128
    dimensions), l1, measure, claimed (where the claim puts the measure, and whose the limit is),
    mean, sd and seeds of the measure, answer, details (what else was looked at, where the claim
    does not hold or is unclear). A block of rows for each l1.

    Sizes of the text are read as places in its row of sizes: its 256 is our smallest, its 4096 our
    second largest. MCS is against the largest where no other size is named.

    - MCS is bimodal: p-values of the dip test lie below `SIGNIFICANT`, and the number of modes is
      two, on average less than 1/2 away from it.
    - Its peaks: the lowest mode lies within `NEAR` of that of random vectors (`MaxCosine(M,
      K).mode()`, 0.32 for the text's sizes), the highest within `NEAR` of 1.
    - Low MCS match random ones: learned from random MCS are less than `FACTOR` times as far as
      random ones from each other. The learned sample is the smaller one and for that alone the
      noisier, so p-values against random samples of its own size are asked to lie above
      `SIGNIFICANT`. These are spread evenly for random dictionaries, so that three seeds of them
      leave the answer unclear in seven of ten runs, five in three of ten. The row is to show a
      mismatch, not a match.
    - Low MCS are much closer to random ones than those of other parameters: these are more than
      `MUCH` times as far. The text finds all this "to a lesser extent" in its smallest dictionary,
      so both factors of ours are compared with their means over the larger ones. A dictionary with
      `TOO_FEW` low-MCS latents or fewer is left out of the comparison with random ones, as in the
      text, and smallest is the smallest of the rest.
    - MCS against two larger dictionaries are highly correlated: Pearson's correlation is above
      `HIGH_CORRELATION`, where one explains about half the variance of the other; for the next two
      sizes, as in the text's picture, and for the two with the least.
    - They form two clusters: a share above `SAME_SIDE` of the latents is on one side of the cutoff
      against both, and one above `CLUSTER` on either side, which is as much as a mode needs. It
      takes `both_high` and `both_low`, numbers of latents, in the rows of correlations.
    - Numbers: from each size to the next, and from first to last, high-MCS latents become more, and
      low-MCS ones by a larger number.
    - Shares of high MCS: above `MOST` in the smallest, below `FEW` in the second largest.
    - Each explanation of low MCS covers more than `MAJORITY` of the low-MCS latents whose effect
      was measured; sizes of one seed are pooled by counts.

    Args:
        tables: rows by name, as `saejax.experiments.bimodality.analysis.analyse` makes them. A
            table, a row or a number (None or NaN) may be missing: the rows that need it say so.
        d_in: of the dictionaries.

    Raises:
        ValueError: for a row that does not say what it is of, for two of the same, and for a d_in
            below 2.

    Source: "[Research Update] Sparse Autoencoder features are bimodal".
    """
    d_in = check_whole("d_in", d_in, "2 or more", lambda v: v >= 2)
    # The modes of one dictionary are rows of the same.
    check_tables(tables, KEYS, several=("modes",))
    rows: list[dict[str, Any]] = []
    for l1 in sorted({row["l1"] for name in KEYS for row in tables.get(name, ())}):
        own = {name: [row for row in tables.get(name, ()) if row["l1"] == l1] for name in KEYS}
        sizes = {row[key] for name, of in own.items() for row in of for key in KEYS[name][1:-1]}
        seeds = {row["seed"] for of in own.values() for row in of}
        run = _Run(l1, d_in, own, sorted(sizes), sorted(seeds))
        for part in (_modes, _random, _correlated, _numbers, _shares, _explanations):
            rows += part(run)
    return table_of(rows, *COLUMNS)


class _Run(NamedTuple):
    """The rows of one l1.

    Attributes:
        l1: coefficient.
        d_in: of the dictionaries.
        rows: by name of the table.
        sizes: of the dictionaries, rising.
        seeds: rising.
    """

    l1: float
    d_in: int
    rows: Mapping[str, Sequence[_Row]]
    sizes: Sequence[int]
    seeds: Sequence[int]

    @property
    def smaller(self) -> Sequence[int]:
        """All sizes but the largest."""
        return self.sizes[:-1]

    def claim(self, text: str, published: str) -> Claim:
        """A claim about this l1."""
        return Claim(text, "", {"l1": self.l1}, published)

    def lacking(self, n_sizes: int, *claims: Claim) -> list[dict[str, Any]]:
        """Rows without figures where there are fewer sizes; otherwise none."""
        needs = f"dictionaries of {n_sizes} sizes"
        return [claim.unmeasured(needs) for claim in claims if len(self.sizes) < n_sizes]

    def named(self, d: int) -> str:
        """A size and the largest in words."""
        return f"{d:,} against {self.sizes[-1]:,}"

    def find(self, table: str, seed: int, d: int, **where: int) -> list[_Row]:
        """Rows of one dictionary, against the largest where nothing else is asked for."""
        wanted = {"seed": seed, "d_sae": d, **(where or {"against": self.sizes[-1]})}
        return [row for row in self.rows[table] if all(row[k] == v for k, v in wanted.items())]

    def figures(self, table: str, column: str, d: int, **where: int) -> Float[np.ndarray, " seeds"]:
        """A column of one size, NaN for seeds without a value."""
        found = (self.find(table, seed, d, **where) for seed in self.seeds)
        return np.array([rows[0].get(column) if rows else None for rows in found], float)

    def by_size(self, table: str, column: str) -> Float[np.ndarray, "sizes seeds"]:
        """A column of all sizes but the largest."""
        rows = (row for row in self.rows[table] if row["against"] == self.sizes[-1])
        return by_seed(rows, column, self.seeds, d_sae=self.smaller).T

    def by_seed(self, what: str, values: Float[np.ndarray, " seeds"]) -> str:
        """Figures of one size as text."""
        return listed(what, "seed", self.seeds, values)

    def at_sizes(self, what: str, values: Float[np.ndarray, "sizes seeds"]) -> str:
        """Means over seeds of all sizes but the largest, as text."""
        return listed(what, "size", self.smaller, map(mean, values))


def _row(
    claim: Claim,
    measure: str,
    figures: Float[np.ndarray, " seeds"],
    claimed: Side,
    limit: float,
    needs: str,
    details: str,
    ours: bool = True,
) -> dict[str, Any]:
    """A row with its answer and whose limit it is; without a figure, what it would take."""
    if not np.isfinite(figures).any():
        return {**claim.unmeasured(needs), "measure": measure}
    words = f"{limit:g} ({'our limit' if ours else 'as published'})"
    return claim.row(measure, figures, claimed, limit, words, details)


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def _modes(run: _Run) -> Iterator[dict[str, Any]]:
    said = f"peaks near {PEAKS[0]:g} and {PEAKS[1]:g}, 1024 against 8192"
    bimodal = run.claim("MCS is bimodal", said)
    at_random = run.claim("the low peak of MCS is that of random vectors", said)
    at_one = run.claim("the high peak of MCS is near 1", said)
    yield from run.lacking(2, bimodal, at_random, at_one)
    for d in run.smaller:
        found = [[row.get("place") for row in run.find("modes", seed, d)] for seed in run.seeds]
        places = [sorted(x for x in of if x is not None and np.isfinite(x)) for of in found]
        each = (
            f"{', '.join(f'{x:.3g}' for x in of)} (seed {seed})"
            for seed, of in zip(run.seeds, places, strict=True)
            if of
        )
        details, needs = f"modes at {'; '.join(each)}", "modes of MCS"
        dip = run.figures("modes", "dip_p_value", d)
        p_values, measure = run.by_seed("p-value", dip), f"p-value of the dip test, {run.named(d)}"
        yield _row(bimodal, measure, dip, "below", SIGNIFICANT, needs, p_values)

        number = np.array([len(of) or np.nan for of in places], float)
        measure = f"how far the number of modes is from 2, {run.named(d)}"
        yield _row(bimodal, measure, np.abs(number - 2), "below", 0.5, needs, details)

        mode = MaxCosine(run.sizes[-1], run.d_in).mode()
        for claim, end, target, words in (
            (at_random, 0, mode, f"lowest mode from {mode:.3g}, that of random vectors"),
            (at_one, -1, PEAKS[1], f"highest mode from {PEAKS[1]:g}"),
        ):
            away = np.array([abs(of[end] - target) if of else np.nan for of in places], float)
            measure = f"distance of the {words}, {run.named(d)}"
            yield _row(claim, measure, away, "below", NEAR, needs, details)


def _random(run: _Run) -> Iterator[dict[str, Any]]:
    text = "low MCS match those of random vectors"
    close = run.claim(text, f"within a factor of {FACTOR:g}, 1024 against 8192")
    equal = run.claim(f"{text}, samples of equal size", "not asked")
    text = "low MCS are much closer to random ones than those of other parameters are"
    closer = run.claim(text, "in words, sizes 512 to 4096 against 8192")
    said = "to a lesser extent for size 512 than for 1024 to 4096"
    lesser = run.claim("low MCS match random ones less in the smallest dictionary", said)
    yield from run.lacking(2, close, equal, closer, lesser)
    if not run.smaller:
        return
    enough = run.by_size("emd", "n_low") > TOO_FEW

    def of(table: str, column: str) -> np.ndarray:
        return np.where(enough, run.by_size(table, column), np.nan)

    learned, expected = of("emd", "learned_random"), of("emd", "expected_if_random")
    ratio, p_value, ks = of("emd", "ratio"), of("emd", "p_value"), of("law", "ks_p_value")
    lead = _quotient(of("emd", "random_alt"), learned)
    learned_lead = _quotient(of("emd", "learned_alt"), learned)
    excess, due = _quotient(learned, expected), _quotient(ratio * expected, learned)
    of_ratio = "EMD of learned from random MCS / of random ones from each other"
    of_lead = "EMD of other parameters from random MCS / of learned from random ones"
    needs = f"random sets and more than {TOO_FEW} low-MCS latents"
    for i, d in enumerate(run.smaller):
        details = [run.by_seed("factor", ratio[i])]
        details.append(run.by_seed("expected of random samples of equal size", due[i]))
        measure = f"{of_ratio}, {run.named(d)}"
        yield _row(close, measure, ratio[i], "below", FACTOR, needs, "; ".join(details), ours=False)

        details = [run.by_seed("p-value", p_value[i])]
        details.append(run.by_seed("EMD from random MCS / what is expected", excess[i]))
        details.append(run.by_seed("p-value of Kolmogorov and Smirnov against the law", ks[i]))
        measure = f"p-value against random samples of equal size, {run.named(d)}"
        yield _row(equal, measure, p_value[i], "above", SIGNIFICANT, needs, "; ".join(details))

        details = [run.by_seed("factor", lead[i])]
        details.append(run.by_seed("of other parameters from learned MCS instead", learned_lead[i]))
        measure = f"{of_lead}, {run.named(d)}"
        yield _row(closer, measure, lead[i], "above", MUCH, needs, "; ".join(details))
    sides: tuple[Side, Side] = ("above", "below")
    for what, factor, side in zip((of_ratio, of_lead), (ratio, lead), sides, strict=True):
        known = np.flatnonzero(np.isfinite(factor).any(1))
        gap, smallest = np.full(len(run.seeds), np.nan), "smallest size"
        if len(known) > 1:
            gap = factor[known[0]] - over_cells(factor[known[1:]].T)
            smallest = f"{run.smaller[known[0]]:,}"
        measure = f"{what}: {smallest} minus mean of the larger"
        details = run.at_sizes("factor", factor)
        yield _row(lesser, measure, gap, side, 0, f"{needs} in two sizes", details, ours=False)


def _correlated(run: _Run) -> Iterator[dict[str, Any]]:
    text = "MCS against two larger dictionaries are highly correlated"
    high = run.claim(text, "in words, without a number")
    said = f"large clusters near ({PEAKS[0]:g}, {PEAKS[0]:g}) and ({PEAKS[1]:g}, {PEAKS[1]:g})"
    clusters = run.claim("MCS against two larger dictionaries form two clusters", said)
    yield from run.lacking(3, high, clusters)
    for i, d in enumerate(run.sizes[:-2]):
        pairs = list(combinations(run.sizes[i + 1 :], 2))
        found = [run.figures("correlation", "pearson", d, larger=a, largest=b) for a, b in pairs]
        each = (
            f"{mean(r):.3g} against {a:,} and {b:,}"
            for (a, b), r in zip(pairs, found, strict=True)
            if np.isfinite(r).any()
        )
        details, needs = f"means: {', '.join(each)}", "correlations of MCS"
        a, b = pairs[0]
        where = f"{d:,} against {a:,} and {b:,}"
        measure = f"Pearson's correlation, {where}"
        yield _row(high, measure, found[0], "above", HIGH_CORRELATION, needs, details)
        if len(pairs) > 1:
            # A seed that lacks a pair has no least one: NaN stays NaN.
            least = np.min(found, axis=0)
            measure = f"least Pearson's correlation, {d:,} against any two"
            yield _row(high, measure, least, "above", HIGH_CORRELATION, needs, details)

        n, *counts = (
            run.figures("correlation", name, d, larger=a, largest=b)
            for name in ("n", "both_high", "both_low")
        )
        high_share, low_share = (_quotient(count, n) for count in counts)
        shares = mean(high_share), mean(low_share)
        details = "high against both: {:.3g}, low against both: {:.3g}".format(*shares)
        needs = "numbers of latents on one side of the cutoff against both"
        measure = f"share on one side of the cutoff against both, {where}"
        yield _row(clusters, measure, high_share + low_share, "above", SAME_SIDE, needs, details)
        smaller = np.minimum(high_share, low_share)
        measure = f"share in the smaller cluster, {where}"
        yield _row(clusters, measure, smaller, "above", CLUSTER, needs, details)


def _numbers(run: _Run) -> Iterator[dict[str, Any]]:
    said = "in words and a picture, sizes 256 to 4096 against 8192"
    rises = run.claim("larger dictionaries have more high-MCS latents", said)
    faster = run.claim("the number of low-MCS latents rises even faster", said)
    yield from run.lacking(3, rises, faster)
    if len(run.sizes) < 3:
        return
    high, low = run.by_size("split", "high"), run.by_size("split", "low")
    parts = ("latents with high MCS", high), ("latents with low MCS", low)
    details = "; ".join(run.at_sizes(what, counts) for what, counts in parts)
    last = len(run.smaller) - 1
    steps = [*pairwise(range(last + 1)), *([(0, last)] if last > 1 else [])]
    for claim, what, counts in (
        (rises, "high-MCS latents gained", high),
        (faster, "low-MCS latents gained minus high-MCS ones gained", low - high),
    ):
        for i, j in steps:
            where = f"from {run.smaller[i]:,} to {run.smaller[j]:,}, against {run.sizes[-1]:,}"
            gained, needs = counts[j] - counts[i], "numbers of latents of both sizes"
            yield _row(claim, f"{what} {where}", gained, "above", 0, needs, details, ours=False)


def _shares(run: _Run) -> Iterator[dict[str, Any]]:
    said = f"more than {MOST:.0%} of 256 latents", f"less than {FEW:.0%} of 4096, against 8192"
    most = run.claim("nearly all latents of the smallest dictionary have high MCS", said[0])
    few = run.claim("few latents of the second largest dictionary have high MCS", said[1])
    yield from run.lacking(2, most, few)
    if not run.smaller:
        return
    shares = run.by_size("split", "high_share")
    details = run.at_sizes("share of high MCS", shares)
    sides: tuple[Side, Side] = ("above", "below")
    for claim, at, side, limit in zip((most, few), (0, -1), sides, (MOST, FEW), strict=True):
        measure = f"share of latents with high MCS, {run.named(run.smaller[at])}"
        yield _row(claim, measure, shares[at], side, limit, "that share", details, ours=False)


def _explanations(run: _Run) -> Iterator[dict[str, Any]]:
    said = "no evidence for one over another"
    claims = {name: run.claim(text, said) for name, text in EXPLANATIONS.items()}
    yield from run.lacking(2, *claims.values())
    if not run.smaller:
        return
    measured = run.by_size("explanation", "low_n_measured")
    counts = np.array([run.by_size("explanation", f"low_count_{name}") for name in CLASSES])
    known = np.isfinite(measured) & np.isfinite(counts).all(0)
    n, counts = np.where(known, measured, 0.0), np.where(known, counts, 0.0)
    pooled = {c: _quotient(k.sum(0), n.sum(0)) for c, k in zip(CLASSES, counts, strict=True)}
    parts = ", ".join(f"{name} {mean(share):.3g}" for name, share in pooled.items())
    sizes = ", ".join(f"{d:,}" for d in run.smaller)
    for name, claim in claims.items():
        each = run.at_sizes(f"share {name}", _quotient(counts[CLASSES.index(name)], n))
        measure = f"share {name} of the measured low-MCS latents, sizes {sizes} together"
        details, needs = f"all shares: {parts}; {each}", "low-MCS latents whose effect was measured"
        yield _row(claim, measure, pooled[name], "above", MAJORITY, needs, details)
