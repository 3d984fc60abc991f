"""The sections of the bimodality page on MCS: figures 3 to 12 of the text, for every size."""

from itertools import combinations

import numpy as np

from saejax.analysis.mcs import MaxCosine
from saejax.core.table import Table
from saejax.experiments.bimodality import distance_figures, mcs_figures
from saejax.experiments.bimodality.view import View
from saejax.report.page import Page
from saejax.report.rows import numbers, over_seeds, said, span
from saejax.results.plots.panels import Intervals


def sections(page: Page, view: View) -> None:
    """Distributions, low MCS beside random ones, correlations, and high and low MCS by size."""
    _distributions(page, view)
    _below_cutoff(page, view)
    _distances(page, view)
    _correlations(page, view)
    _high_and_low(page, view)


def _distributions(page: Page, view: View) -> None:
    largest = view.sizes[-1]
    page.heading("How MCS is distributed: figure 3 of the text")
    page.paragraph(
        "MCS of every latent against the largest dictionary of the same seed. Peaks are local "
        "maxima of a kernel density that hold at least 5 % of the latents in excess of their "
        "surroundings; their intervals come from resampling the latents. The dip test asks "
        "whether a single peak could give such a sample: a small p-value says no."
    )
    panels = [
        mcs_figures.Histogram(_title(view, d), mcs, _peaks(view, d))
        for d in view.smaller
        if (mcs := view.array("mcs", d, largest)) is not None
    ]
    if panels:
        page.figure(
            "mcs",
            f"MCS against the dictionary of {largest:,} latents, for every smaller size.",
            mcs_figures.histograms(panels, view.cutoff, f"MCS against {largest:,} latents"),
        )
    if view.tables["modes"]:
        page.table(Table(view.tables["modes"]), "modes")
    _all_pairs(page, view)
    _other_seeds(page, view)


def _peaks(view: View, d: int) -> list[np.ndarray]:
    of_seeds = [view.rows("modes", d_sae=d, seed=seed) for seed in view.seeds]
    return [
        np.stack([numbers(own, name) for name in ("place", "low", "high")], axis=1)
        for own in of_seeds
    ]


def _title(view: View, d: int) -> str:
    """Of a panel: the size, and where its peaks are."""
    head, found = f"{d:,} against {view.sizes[-1]:,} latents", _peaks(view, d)
    counts = {len(peaks) for peaks in found}
    if counts == {0}:
        return f"{head}\nno peaks known"
    if len(counts) > 1:
        return f"{head}\npeaks: {' or '.join(map(str, sorted(counts)))}, depending on the seed"
    at = [Intervals(*column) for column in np.stack(found).transpose(1, 2, 0)]
    return f"{head}\npeak{'s' if len(at) > 1 else ''} at {', '.join(map(said, at))}"


def _all_pairs(page: Page, view: View) -> None:
    n = len(view.sizes)
    share, mmcs = np.full((2, len(view.seeds), n, n), np.nan)
    for (i, d), (j, larger) in combinations(enumerate(view.sizes), 2):
        found = view.array("mcs", d, larger)
        if found is not None:
            share[:, i, j], mmcs[:, i, j] = (found >= view.cutoff).mean(1), found.mean(1)
    several = "; mean ± sd over seeds" if len(view.seeds) > 1 else ""
    page.figure(
        "pairs",
        "Every size against every larger one of the same seed: share of the latents with high "
        f"MCS, and mean of MCS{several}.",
        distance_figures.pairs({"share of latents with high MCS": share, "MMCS": mmcs}, view.sizes),
    )


def _other_seeds(page: Page, view: View) -> None:
    arrays = {d: view.array("other_seeds", d) for d in view.sizes}
    panels = [
        mcs_figures.Histogram(f"{d:,} latents, mean MCS {found.mean():.2f}", found.reshape(-1, d))
        for d, found in arrays.items()
        if found is not None and found.size
    ]
    if not panels:
        page.paragraph(
            "With one seed there is no other dictionary of the same size to compare with."
        )
        return
    page.figure(
        "mcs_other_seeds",
        "MCS against dictionaries of the same size and other seeds, every seed against every "
        "other: what training finds again from another start.",
        mcs_figures.histograms(
            panels, view.cutoff, "MCS against dictionaries of the same size", "pairs of seeds"
        ),
    )


def _below_cutoff(page: Page, view: View) -> None:
    largest, cutoff = view.sizes[-1], view.cutoff
    page.heading("Low MCS beside those of random vectors: figures 4 and 5")
    page.paragraph(
        f"MCS below {cutoff:g} of learned dictionaries, of as many random vectors against "
        f"{largest:,} random ones in {view.run['d_in']} dimensions, and the law that the latter "
        "follow. The learned ones are fewer, because many have a high MCS; random counts and law "
        "are scaled to their number, so that shapes can be compared. The Kolmogorov-Smirnov "
        "distance is the largest difference between the shares of latents up to some MCS, here "
        "and in the law; its p-value is small where the low MCS are not just those of random "
        "vectors."
    )
    law = MaxCosine(M=largest, K=view.run["d_in"], below=cutoff)
    x = np.linspace(float(law.ppf(1e-6)), cutoff, 300)
    panels = []
    for d in view.smaller:
        learned, random = view.array("mcs", d, largest), view.array("random", d)
        if learned is None:
            continue
        learned = np.where(learned < cutoff, learned, np.nan)
        random = view.blank(d) if random is None else random
        panels.append(mcs_figures.BelowCutoff(_ks(view, d), learned, random, x, law.pdf(x)))
    if panels:
        page.figure(
            "below_cutoff",
            f"MCS below {cutoff:g} of learned and of random dictionaries, and the law of random "
            "ones.",
            mcs_figures.below_cutoff(panels, cutoff, "Low MCS: learned, random, and the law"),
        )
    if view.tables["law"]:
        page.table(Table(view.tables["law"]), "law")


def _ks(view: View, d: int) -> str:
    rows = view.rows("law", d_sae=d)
    distance = numbers(rows, "ks")
    if not np.isfinite(distance).any():
        return f"{d:,} latents"
    words = said(Intervals(distance, *np.full((2, len(rows)), np.nan)))
    p = numbers(rows, "ks_p_value")
    shown = "below 0.001" if np.nanmax(p) < 0.001 else span(p)
    return f"{d:,} latents\ndistance from the law {words}, p {shown}"


def _distances(page: Page, view: View) -> None:
    study, largest = view.run["study"], view.sizes[-1]
    page.heading("How far low MCS are from random ones: figures 6, 7 and 8")
    page.paragraph(
        "Earth mover's distances: how far the cosines of one sample have to be moved on average to "
        f"get those of another. Beside the learned sample are {study['n_random']} random ones "
        f"with the same sizes, and one against {2 * largest:,} vectors instead of {largest:,} "
        "(alt params). A small sample is far from everything by chance, and the cutoff makes the "
        "learned one small. expected_if_random is the distance to the random samples that as many "
        "random cosines would have, and p_value the share of such samples that are at least as "
        "far away as the learned one. Intervals come from resampling, which adds distance: those "
        "of small distances can lie wholly above them."
    )
    labels, panels = view.run["emd_labels"], {}
    for d in view.smaller:
        parts = [view.array(name, d) for name in ("emd", "emd_low", "emd_high")]
        blank = np.full((len(labels), len(labels)), np.nan)
        own = [blank if part is None else part[0] for part in parts]
        panels[f"{d:,} against {largest:,} latents"] = distance_figures.Matrix(*own)
    page.figure(
        "emd",
        f"Earth mover's distances between learned, random and differently random MCS below "
        f"{view.cutoff:g}, seed {view.seeds[0]}, with intervals.",
        distance_figures.distances(
            panels, labels, f"Distances between low MCS, seed {view.seeds[0]}"
        ),
    )
    series = {
        words: view.intervals("emd", name, view.smaller)
        for name, words in (
            ("learned_random", "learned to random"),
            ("random_random", "random to random"),
            ("random_alt", "random to alt params"),
        )
    }
    expected = view.column("emd", "expected_if_random", view.smaller)
    page.figure(
        "emd_over_sizes",
        "The same distances for every size and seed, with intervals; the random ones are means "
        "over all pairs of samples.",
        distance_figures.distances_over_sizes(
            series, expected, view.smaller, "Distances between low MCS"
        ),
    )
    if view.tables["emd"]:
        page.table(Table(view.tables["emd"]), "emd")
    else:
        page.paragraph("No dictionary has a latent below the cutoff, so there are no distances.")


def _correlations(page: Page, view: View) -> None:
    page.heading("MCS against two larger dictionaries: figures 9 and 10")
    panels = []
    for d, *larger in zip(view.sizes, view.sizes[1:], view.sizes[2:], strict=False):
        x, y = (view.array("mcs", d, size) for size in larger)
        if x is None or y is None:
            continue
        where = {"d_sae": d, "larger": larger[0], "largest": larger[1]}
        words = (
            f"{name} {said(Intervals(*(each[:, 0] for each in found)))}"
            for name in ("Pearson", "Spearman")
            for found in [view.intervals("correlation", name.lower(), [d], **where)]
        )
        title = f"{d:,} latents\n{', '.join(words)}"
        panels.append(mcs_figures.Scatter(title, x, y, (larger[0], larger[1])))
    if not panels:
        page.paragraph(
            "This takes a dictionary and two larger ones; there are not that many sizes."
        )
        return
    page.figure(
        "correlation",
        "MCS of every latent against the next two larger dictionaries, with correlations "
        f"{'(mean ± sd over seeds)' if len(view.seeds) > 1 else 'and their intervals'}.",
        mcs_figures.scatters(panels, "MCS against two larger dictionaries"),
    )
    if view.tables["correlation"]:
        keys = ("l1", "d_sae", "larger", "largest")
        table = over_seeds(view.tables["correlation"], keys, ("pearson", "spearman"))
        page.table(table, "correlation")


def _high_and_low(page: Page, view: View) -> None:
    largest = view.sizes[-1]
    page.heading("High and low MCS by size: figures 11 and 12")
    share = view.intervals("split", "high_share", view.smaller, against=largest)
    high = view.column("split", "high", view.smaller, against=largest)
    if view.tables["split"]:
        page.figure(
            "high_and_low",
            f"Latents with MCS from {view.cutoff:g} on and below it, against {largest:,} latents.",
            mcs_figures.high_and_low(
                high, share, view.smaller, f"High and low MCS against {largest:,} latents"
            ),
        )
        names = ("high", "low", "high_share")
        page.table(over_seeds(view.tables["split"], ("l1", "d_sae", "against"), names), "split")
