"""What SynthSAEBench says about architectures, judged at the same sparsity as published."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from saejax.core.table import Table
from saejax.data.synthetic.recipe import Synthetic, firing_rates
from saejax.data.synthetic.synthsaebench import synthsaebench_16k
from saejax.experiments.common.claims import JUDGED, Claim, Side, table_of
from saejax.experiments.synthbench import published
from saejax.results.result import Result

# The published architectures that this library has; topk and gated were not among them.
COMPARED = ("relu", "batchtopk", "jumprelu", "matryoshka")
COLUMNS = ("claim", "published", "l0", *JUDGED, "details")
_PUBLISHED_D_SAE = 4096
# Relative difference within which two L0 are the same.
_SAME = 1e-4
_APART = "better recovery comes without better reconstruction"
_MATRYOSHKA = "Matryoshka SAEs detect features best"
_RELU = "SAEs with ReLU and L1 recover features worst"
_TRADE = "more active latents: recall rises, precision falls"


def spec_of(result: Result) -> Synthetic:
    """The data of a result of this study."""
    return synthsaebench_16k(result.run["study"]["scale"])


def true_l0(spec: Synthetic, d_sae: int) -> float:
    """Mean number of features active in a sample, of the d_sae most frequent ones.

    It is the L0 of a dictionary that holds these features and makes no mistake: 25.2 at full size.
    """
    return float(np.sort(np.asarray(firing_rates(spec)))[::-1][:d_sae].sum())


def matched_l0(result: Result, theirs: float) -> float:
    """Our counterpart of a published L0: the same share of `true_l0`, at full size the same L0."""
    full = true_l0(synthsaebench_16k(), _PUBLISHED_D_SAE)
    return theirs * true_l0(spec_of(result), result.d_sae[0]) / full


def cells(result: Result, architecture: str, metric: str) -> Float[np.ndarray, "seed sparsity"]:
    """A metric of an architecture's SAEs; "explained_variance" is 1 - fvu. NaN where frozen."""
    if metric == "explained_variance":
        return 1 - cells(result, architecture, "fvu")
    return result.cut(result.values(metric), architecture=architecture)[:, 0]


def at_l0(result: Result, architecture: str, metric: str, l0: float) -> Float[np.ndarray, " seed"]:
    """A metric of every seed at one L0, linear in log L0 between the two SAEs about it.

    NaN where a seed's SAEs do not lie on both sides of that L0: nothing is extrapolated.

    Args:
        result: of a sweep of one data set and ratio.
        architecture: one of its architectures.
        metric: as in `cells`.
        l0: where.
    """
    out = []
    for x, y in zip(*(cells(result, architecture, m) for m in ("l0", metric)), strict=True):
        kept = np.isfinite(x) & np.isfinite(y)
        order = np.argsort(x[kept])
        x, y = x[kept][order], y[kept][order]
        inside = len(x) > 0 and x[0] <= l0 * (1 + _SAME) and x[-1] >= l0 * (1 - _SAME)
        out.append(np.interp(np.log(l0), np.log(np.maximum(x, 1e-9)), y) if inside else np.nan)
    return np.array(out)


def of_synthbench(result: Result) -> Table:
    """The claims, answered with figures of every seed.

    Columns: claim, published (the figure of the text), l0 (where SAEs are compared), measure,
        claimed
    (where the claim puts the measure), mean, sd and seeds of the measure, answer, details (what
    every architecture has, where the claim does not hold or is unclear).

    SAEs are compared within a seed, at our counterparts of the two published L0s (`matched_l0`,
    `at_l0`), and among the published architectures, `COMPARED`; the best and the worst of them are
    those of the seed.

    - Matryoshka detects features best: its F1 minus the best other one is above 0.
    - ReLU with L1 is worst: its F1, MCC and uniqueness minus the worst other ones are below 0.
    - Recovery and reconstruction part ways: Matryoshka minus BatchTopK is above 0 in F1 and below 0
      in explained variance.
    - L0 trades precision for recall: from an architecture's sparsest SAE to its densest, recall
      rises and precision falls, mean over architectures.

    Args:
        result: of the synthbench study.

    Source: SynthSAEBench (Chanin and Garriga-Alonso, 2026, arXiv 2602.14687), and the documentation
        of
    SAELens, which has the figures.
    """
    rows: list[dict[str, Any]] = []
    for theirs in published.synthbench():
        rows += _differences(result, theirs)
    rows += _trade(result)
    return table_of(rows, *COLUMNS)


def _differences(result: Result, theirs: int) -> Iterator[dict[str, Any]]:
    """An architecture minus others at one published L0."""
    others = tuple(name for name in COMPARED if name != "matryoshka")
    better = tuple(name for name in COMPARED if name != "relu")
    l0, table = matched_l0(result, theirs), published.synthbench()[theirs]
    judged: tuple[tuple[str, str, str, tuple[str, ...], Side], ...] = (
        (_MATRYOSHKA, "f1", "matryoshka", others, "above"),
        (_RELU, "f1", "relu", better, "below"),
        (_RELU, "mcc", "relu", better, "below"),
        (_RELU, "uniqueness", "relu", better, "below"),
        (_APART, "f1", "matryoshka", ("batchtopk",), "above"),
        (_APART, "explained_variance", "matryoshka", ("batchtopk",), "below"),
    )
    for claim, metric, name, against, side in judged:
        extreme, word = (np.max, "the best") if side == "above" else (np.min, "the worst")
        gap = table[name][metric][0] - extreme([table[own][metric][0] for own in against])
        head = Claim(claim, "", {"l0": l0}, f"{gap:+.3f} at L0 {theirs}")
        present = [own for own in against if own in result.coords["architecture"]]
        if name not in result.coords["architecture"] or not present:
            yield head.unmeasured(f"{name} and {' or '.join(against)}")
            continue
        at = {own: at_l0(result, own, metric, l0) for own in (name, *present)}
        rival = against[0] if len(against) == 1 else f"{word} of {', '.join(present)}"
        # A seed in which one of them has no value has none: the best of the rest is another claim.
        figures = at[name] - extreme([at[own] for own in present], axis=0)
        details = _by_architecture(metric, at)
        yield head.row(f"{metric}, {name} minus {rival}", figures, side, details=details)


def _trade(result: Result) -> Iterator[dict[str, Any]]:
    """What an architecture's densest SAE has more than its sparsest."""
    names = [name for name in COMPARED if name in result.coords["architecture"]]
    judged: tuple[tuple[str, Side], ...] = (("recall", "above"), ("precision", "below"))
    for metric, side in judged:
        head = Claim(_TRADE, "", {"l0": None}, "in words")
        gained = {}
        for name in names:
            l0, y = cells(result, name, "l0"), cells(result, name, metric)
            low, high = (
                np.take_along_axis(y, best(np.where(np.isfinite(l0), l0, worst), 1)[:, None], 1)
                for best, worst in ((np.argmin, np.inf), (np.argmax, -np.inf))
            )
            gained[name] = (high - low)[:, 0]
        if not gained:
            yield head.unmeasured(f"one of {', '.join(COMPARED)}")
            continue
        measure = f"{metric}, densest SAE minus sparsest, mean over architectures"
        figures = np.mean([*gained.values()], axis=0)
        yield head.row(measure, figures, side, details=_by_architecture("gain", gained))


def _by_architecture(what: str, values: dict[str, Float[np.ndarray, " seed"]]) -> str:
    """Means over seeds as text; "none" where an architecture has no value."""
    means = {k: v[np.isfinite(v)] for k, v in values.items()}
    figures = (f"{k} {v.mean():.3g}" if v.size else f"{k} none" for k, v in means.items())
    return f"{what}: {', '.join(figures)}"
