"""The sections of the bimodality page on MCS: figures 3 to 12 of the text, for every size."""

from itertools import combinations

import numpy as np

from saejax.analysis.mcs import MaxCosine
from saejax.core.table import Table
from saejax.experiments.bimodality import figures_distances, figures_mcs
from saejax.experiments.bimodality.workdir import View
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
    largest, n_seeds = view.sizes[-1], len(view.seeds)
    page.heading("How MCS is distributed: figure 3 of the text")
    page.paragraph(
        "MCS of every latent against the largest dictionary of the same seed. Peaks are local "
        "maxima of a kernel density that hold at least 5 % of the latents in excess of their "
        "surroundings; their intervals come from resampling the latents. The dip test asks "
        "whether a single peak could give such a sample: a small p-value says no."
    )
    panels = [
        figures_mcs.Histogram(_title(view, d), mcs, _peaks(view, d))
        for d in view.smaller
        if (mcs := view.array("mcs", d, largest)) is not None
    ]
    if panels:
        caption = f"MCS against the dictionary of {largest:,} latents, for every smaller size."
        title = f"MCS against {largest:,} latents"
        page.figure("mcs", caption, figures_mcs.histograms(panels, view.cutoff, title))
    if view.tables["modes"]:
        page.table(Table(view.tables["modes"]), "modes")

    n = len(view.sizes)
    share, mmcs = np.full((2, n_seeds, n, n), np.nan)
    for (i, d), (j, larger) in combinations(enumerate(view.sizes), 2):
        if (mcs := view.array("mcs", d, larger)) is not None:
            share[:, i, j], mmcs[:, i, j] = (mcs >= view.cutoff).mean(1), mcs.mean(1)
    several = "; mean ± sd over seeds" if n_seeds > 1 else ""
    page.figure(
        "pairs",
        "Every size against every larger one of the same seed: share of the latents with high "
        f"MCS, and mean of MCS{several}.",
        figures_distances.pairs(
            {"share of latents with high MCS": share, "MMCS": mmcs}, view.sizes
        ),
    )
    panels = [
        figures_mcs.Histogram(f"{d:,} latents, mean MCS {mcs.mean():.2f}", mcs.reshape(-1, d))
        for d in view.sizes
        if (mcs := view.array("other_seeds", d)) is not None and mcs.size
    ]
    if not panels:
        page.paragraph(
            "With one seed there is no other dictionary of the same size to compare with."
        )
        return
    title = "MCS against dictionaries of the same size"
    page.figure(
        "mcs_other_seeds",
        "MCS against dictionaries of the same size and other seeds, every seed against every "
        "other: what training finds again from another start.",
        figures_mcs.histograms(panels, view.cutoff, title, "pairs of seeds"),
    )


def _peaks(view: View, d: int) -> list[np.ndarray]:
    """Of each seed the peaks, [modes, 3]: place, lower and upper end of the interval."""
    of_seeds = (view.rows("modes", d_sae=d, seed=seed) for seed in view.seeds)
    return [np.stack([numbers(rows, n) for n in ("place", "low", "high")], 1) for rows in of_seeds]


def _title(view: View, d: int) -> str:
    """Of a panel: the size, and where its peaks are."""
    head, peaks = f"{d:,} against {view.sizes[-1]:,} latents", _peaks(view, d)
    counts = {len(of_seed) for of_seed in peaks}
    if counts == {0}:
        return f"{head}\nno peaks known"
    if len(counts) > 1:
        return f"{head}\npeaks: {' or '.join(map(str, sorted(counts)))}, depending on the seed"
    places = [said(Intervals(*column)) for column in np.stack(peaks).transpose(1, 2, 0)]
    return f"{head}\npeak{'s' if len(places) > 1 else ''} at {', '.join(places)}"


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
        panels.append(figures_mcs.BelowCutoff(_ks(view, d), learned, random, x, law.pdf(x)))
    if panels:
        page.figure(
            "below_cutoff",
            f"MCS below {cutoff:g} of learned and of random dictionaries, and the law of random "
            "ones.",
            figures_mcs.below_cutoff(panels, cutoff, "Low MCS: learned, random, and the law"),
        )
    if view.tables["law"]:
        page.table(Table(view.tables["law"]), "law")


def _ks(view: View, d: int) -> str:
    """Title of a panel: the size, and how far its low MCS are from the law of random ones."""
    rows = view.rows("law", d_sae=d)
    distance, p = numbers(rows, "ks"), numbers(rows, "ks_p_value")
    if not np.isfinite(distance).any():
        return f"{d:,} latents"
    words = said(Intervals(distance, *np.full((2, len(rows)), np.nan)))
    shown = "below 0.001" if np.nanmax(p) < 0.001 else span(p)
    return f"{d:,} latents\ndistance from the law {words}, p {shown}"


def _distances(page: Page, view: View) -> None:
    study, largest, smaller = view.run["study"], view.sizes[-1], view.smaller
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
    blank = np.full((1, len(labels), len(labels)), np.nan)
    for d in smaller:
        parts = (view.array(name, d) for name in ("emd", "emd_low", "emd_high"))
        first_seed = [(blank if part is None else part)[0] for part in parts]
        panels[f"{d:,} against {largest:,} latents"] = Intervals(*first_seed)
    title = f"Distances between low MCS, seed {view.seeds[0]}"
    page.figure(
        "emd",
        f"Earth mover's distances between learned, random and differently random MCS below "
        f"{view.cutoff:g}, seed {view.seeds[0]}, with intervals.",
        figures_distances.distances(panels, labels, title),
    )
    series = {
        "learned to random": view.intervals("emd", "learned_random", smaller),
        "random to random": view.intervals("emd", "random_random", smaller),
        "random to alt params": view.intervals("emd", "random_alt", smaller),
    }
    expected = view.column("emd", "expected_if_random", smaller)
    title = "Distances between low MCS"
    page.figure(
        "emd_over_sizes",
        "The same distances for every size and seed, with intervals; the random ones are means "
        "over all pairs of samples.",
        figures_distances.distances_over_sizes(series, expected, smaller, title),
    )
    if view.tables["emd"]:
        page.table(Table(view.tables["emd"]), "emd")
    else:
        page.paragraph("No dictionary has a latent below the cutoff, so there are no distances.")


def _correlations(page: Page, view: View) -> None:
    page.heading("MCS against two larger dictionaries: figures 9 and 10")
    panels = []
    for d, larger, largest in zip(view.sizes, view.sizes[1:], view.sizes[2:], strict=False):
        x, y = view.array("mcs", d, larger), view.array("mcs", d, largest)
        if x is None or y is None:
            continue
        where = {"larger": larger, "largest": largest}
        pearson, spearman = (
            said(
                Intervals(*(part[:, 0] for part in view.intervals("correlation", n, [d], **where)))
            )
            for n in ("pearson", "spearman")
        )
        title = f"{d:,} latents\nPearson {pearson}, Spearman {spearman}"
        panels.append(figures_mcs.Scatter(title, x, y, (larger, largest)))
    if not panels:
        page.paragraph(
            "This takes a dictionary and two larger ones; there are not that many sizes."
        )
        return
    page.figure(
        "correlation",
        "MCS of every latent against the next two larger dictionaries, with correlations "
        f"{'(mean ± sd over seeds)' if len(view.seeds) > 1 else 'and their intervals'}.",
        figures_mcs.scatters(panels, "MCS against two larger dictionaries"),
    )
    if view.tables["correlation"]:
        keys = ("l1", "d_sae", "larger", "largest")
        table = over_seeds(view.tables["correlation"], keys, ("pearson", "spearman"))
        page.table(table, "correlation")


def _high_and_low(page: Page, view: View) -> None:
    largest = view.sizes[-1]
    page.heading("High and low MCS by size: figures 11 and 12")
    if view.tables["split"]:
        share = view.intervals("split", "high_share", view.smaller, against=largest)
        high = view.column("split", "high", view.smaller, against=largest)
        title = f"High and low MCS against {largest:,} latents"
        page.figure(
            "high_and_low",
            f"Latents with MCS from {view.cutoff:g} on and below it, against {largest:,} latents.",
            figures_mcs.high_and_low(high, share, view.smaller, title),
        )
        names = ("high", "low", "high_share")
        page.table(over_seeds(view.tables["split"], ("l1", "d_sae", "against"), names), "split")
