"""Every metric in a row: what it means, which direction is better, how pictures show it."""

from functools import partial
from typing import Literal, NamedTuple


class Curve(NamedTuple):
    """How a metric is shown over training: title, label of the y axis, whether it is summed up."""

    title: str
    ylabel: str
    total: bool = False


class Entry(NamedTuple):
    """A metric as tables, pictures and comparisons know it.

    Attributes:
        name: its column, and its name in arrays and arguments.
        title: its name in pictures.
        note: stands under the title of a heat map.
        meaning: what it is, for the documentation.
        larger_is_better: None for what is drawn but is no column of the table.
        scale: of a heat map's colours: from 0 on, from 0 to 1 ("share"), logarithmic, or
            logarithmic with a 0 ("count").
        digits: format of the numbers in a heat map.
        heatmap: its place among the heat maps of a report, 0 for none.
        compared: its place among the metrics by which architectures are compared, 0 for none.
        curve: how a report shows it over training, None where it does not.
    """

    name: str
    title: str
    note: str
    meaning: str
    larger_is_better: bool | None = None
    scale: Literal["linear", "share", "log", "count"] = "linear"
    digits: str = ".2f"
    heatmap: int = 0
    compared: int = 0
    curve: Curve | None = None


_share = partial(Entry, larger_is_better=True, scale="share")
_count = partial(Entry, digits=".0f")
# Columns of the table of results stand in this order; what was not measured is left out.
CATALOGUE = (
    _share(
        "mmcs_true_to_dict",
        "MMCS with the true features",
        "1 = every true feature was found",
        "mean over true features of the best cosine with a latent: how much was found",
        heatmap=1,
        compared=1,
    ),
    _share(
        "mmcs_dict_to_true",
        "MMCS of the dictionary's latents",
        "1 = every latent is a true feature",
        "mean over latents of the best cosine with a true feature: how much of them is real",
    ),
    Entry(
        *("mse", "Reconstruction error (mse)", "lower is better"),
        "squared error per input dimension",
        larger_is_better=False,
        scale="log",
        digits=".1e",
        heatmap=2,
    ),
    Entry(
        *("l1_loss", "L1 loss", "l1 x sparsity, part of the objective"),
        "`l1 x sparsity`, so that `mse + l1_loss` is the objective",
        larger_is_better=False,
        scale="log",
        digits=".1e",
    ),
    Entry(
        *("l0", "L0", "active latents in a sample"),
        "mean number of active latents in a sample",
        larger_is_better=False,
        scale="log",
        digits=".1f",
    ),
    Entry(
        *("fvu", "Fraction of variance unexplained", "lower is better"),
        "share of the data's variance that the reconstruction leaves unexplained",
        larger_is_better=False,
        compared=4,
    ),
    _count(
        *("dead_latents", "Dead latents", "never active on the evaluation batches"),
        "latents that never fire on the evaluation batches, which are fresh each time",
        larger_is_better=False,
        scale="count",
        heatmap=4,
        curve=Curve("Dead latents", "dead latents, % of d_sae"),
    ),
    _share(
        "mmcs_to_next_larger",
        "MMCS with the next larger dictionary",
        "1 = it finds the same latents again",
        "mean best cosine of its latents with those of the next larger dictionary; empty for the "
        "largest",
        heatmap=3,
    ),
    _count(
        *("learned", "Features learned", "threshold crossed upwards, over all evaluations"),
        "times a true feature's best cosine reached 0.9 between two evaluations",
        larger_is_better=True,
        curve=Curve("Times a feature was learned", "upward crossings, total", total=True),
    ),
    _count(
        *("unlearned", "Features unlearned", "threshold crossed downwards, over all evaluations"),
        "times a true feature's best cosine fell below 0.9 between two evaluations",
        larger_is_better=False,
        curve=Curve("Times a feature was unlearned", "downward crossings, total", total=True),
    ),
    _count(
        *("represented", "Features represented", "best cosine above the threshold"),
        "true features whose best cosine is 0.9 or more now (`learned - unlearned`)",
        larger_is_better=True,
    ),
    _share(
        "mcc",
        "Mean correlation coefficient",
        "cosine of latents and features paired one to one",
        "mean absolute cosine of latents and true features in their best one-to-one pairing (final "
        "dictionaries)",
        compared=2,
    ),
    _share(
        *("uniqueness", "Uniqueness", "1 = no two latents share a feature"),
        "number of different features that are some latent's closest, over the number of latents",
    ),
    _share(
        *("precision", "Precision of firing", "when a latent fires, its feature is there"),
        "how often a latent's closest feature is there when it fires, mean over all latents",
    ),
    _share(
        *("recall", "Recall of firing", "when a feature is there, its latent fires"),
        "how often a latent fires when its closest feature is there, mean over all latents",
    ),
    _share(
        *("f1", "F1 of firing", "harmonic mean of precision and recall"),
        "harmonic mean of a latent's precision and recall, mean over all latents",
        compared=3,
    ),
    _count(
        *("kept", "Features kept", "represented before and now, by the same latent"),
        "true features that stay at 0.9 or above, with the same latent as an evaluation before",
        curve=Curve("Features still learned with the same latent", "features"),
    ),
    _count(
        *("moved", "Features moved", "represented before and now, by another latent"),
        "true features that stay at 0.9 or above, with another latent than an evaluation before",
        curve=Curve("Features that moved to another latent", "moves, total", total=True),
    ),
    Entry(
        "live_to_true",
        "Live latents: best cosine with a true feature",
        "1 = every live latent is a true feature",
        "as `mmcs_dict_to_true`, over the latents that fire (the study toy3d)",
        scale="share",
    ),
)
BY_NAME = {metric.name: metric for metric in CATALOGUE}
LARGER_IS_BETTER = {m.name: m.larger_is_better for m in CATALOGUE if m.larger_is_better is not None}
METRICS = tuple(LARGER_IS_BETTER)
TRACKED = {metric.name: metric.curve for metric in CATALOGUE if metric.curve}
# Columns whose final value is the sum over all evaluations.
SUMMED = tuple(name for name, curve in TRACKED.items() if curve.total and name in METRICS)
HEATMAPS = tuple(m.name for m in sorted(CATALOGUE, key=lambda m: m.heatmap) if m.heatmap)
COMPARED = tuple(m.name for m in sorted(CATALOGUE, key=lambda m: m.compared) if m.compared)


def described(name: str) -> Entry:
    """The row of a metric; one of the user's is titled by its name."""
    scale = "share" if name.startswith("mmcs") else "linear"
    return BY_NAME.get(name, Entry(name, name, "", "", scale=scale, digits=".3g"))
