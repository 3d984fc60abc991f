"""The page of the synthbench study: architectures at the same sparsity, beside published ones."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saejax.core.stats import mean_and_spread
from saejax.core.table import Table
from saejax.data.synthetic.recipe import mean_active
from saejax.experiments.synthbench import claims, published
from saejax.experiments.synthbench.figures import Courses, by_architecture
from saejax.report import sweep
from saejax.report.page import Page
from saejax.results.pictures import at_sparsity
from saejax.results.plots import architectures as architecture_plots
from saejax.results.result import Result
from saejax.results.saving import load

# Two rows of panels: how well firing detects features, and how well directions and inputs are met.
DETECTION = "How well the firing of a latent detects its feature"
PICTURES = {
    "detection": (("f1", "precision", "recall"), DETECTION),
    "recovery": (("mcc", "uniqueness", "fvu"), "How well features and inputs are recovered"),
}
COLUMNS = {"f1": "F1", "mcc": "MCC", "uniqueness": "uniqueness", "explained_variance": "explained"}


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    result = load(path)
    spec, d_sae = claims.spec_of(result), result.d_sae[0]
    page = Page(path, "saejax: which architecture finds the features of SynthSAEBench?")
    sweep.warnings(page, result)
    seeds, run = len(result.coords["seed"]), result.run
    page.paragraph(
        f"{len(result.cells())} SAEs of {d_sae:,} latents, {seeds} of each kind, trained together "
        f"for {int(result.steps[-1]):,} steps of {run['settings']['batch_size']:,} fresh samples "
        f"on {run['device']}. Data: {spec.n_features:,} features in {spec.d_in} dimensions, of "
        f"which {mean_active(spec):.1f} are active in a sample; a dictionary that held the "
        f"{d_sae:,} most frequent ones and made no mistake would have L0 "
        f"{claims.true_l0(spec, d_sae):.1f}."
    )
    scale = run["study"]["scale"]
    if scale > 1:
        page.paragraph(
            f"The data are SynthSAEBench-16k reduced {scale}-fold, trained for far fewer samples: "
            "the numbers cannot be compared with published ones, the order of the architectures "
            "can.",
            warning=True,
        )
    page.heading("Architectures at the same sparsity")
    for name, (metrics, title) in PICTURES.items():
        page.figure(name, f"{title}; a point for each SAE.", _picture(result, metrics, title))
    _published(page, result)
    sweep.claimed(page, claims.of_synthbench(result))
    page.heading("During training")
    page.paragraph(
        "F1, a line for each sparsity: a line that still rises has not been trained enough."
    )
    page.figure(
        "training_f1", "A panel for each architecture, a line for each L1 or k.", _training(result)
    )
    sweep.ending(page, result)
    return page


def _picture(result: Result, metrics: tuple[str, ...], title: str) -> Figure:
    """Metrics against L0, with the mean number of active features of either count."""
    (dataset,) = result.coords["dataset"]
    spec, seeds = claims.spec_of(result), len(result.coords["seed"])
    panels = {dataset: {metric: at_sparsity(result, metric) for metric in metrics}}
    figure = architecture_plots.at_sparsity(panels, {dataset: mean_active(spec)}, n_seeds=seeds)
    held = claims.true_l0(spec, result.d_sae[0])
    for ax in figure.axes:
        ax.axvline(held, color="0.4", ls="--", lw=1)
    bars = f"; bars: ± sd over {seeds} seeds" if seeds > 1 else ""
    figure.suptitle(
        f"{title}. Vertical lines: features active in a sample, dotted all, dashed the "
        f"{result.d_sae[0]:,} most frequent{bars}",
        fontsize=10.5,
    )
    return figure


def _training(result: Result) -> Figure:
    """F1 of all SAEs at every evaluation."""
    f1 = np.where(result.history["frozen_at"] < 0, result.history["f1"], np.nan)
    panels = {}
    for name in result.coords["architecture"]:
        axis, values = result.sparsity(architecture=name)
        mean, spread = mean_and_spread(
            np.stack([result.cut(a, architecture=name)[:, 0] for a in f1], axis=1)
        )
        sign = {"l1": "L1", "k": "k"}[axis]
        panels[name] = Courses([f"{sign} {value:g}" for value in values], mean, spread)
    return by_architecture(result.steps, panels, "F1", len(result.coords["seed"]))


def _published(page: Page, result: Result) -> None:
    """Every published number beside ours at the L0 that corresponds."""
    page.heading("Beside the published results")
    page.paragraph(
        "Published are 16,384 features, 4,096 latents, 200 million samples, 5 seeds, at two L0: "
        "25, that of the 4,096 most frequent features, and 20; L0 here is the same share of our "
        "own. Our numbers lie on the line between the SAEs of a seed on either side of that L0; "
        "without one on each side there is none. topk and gated were not published, and this "
        "library has no matching pursuit."
    )
    rows = []
    for theirs, table in published.synthbench().items():
        l0 = claims.matched_l0(result, theirs)
        for name in dict.fromkeys((*table, *result.coords["architecture"])):
            row: dict[str, Any] = {"L0": theirs, "L0 here": l0, "architecture": name}
            for metric, column in COLUMNS.items():
                row[column] = _said(*table.get(name, {}).get(metric, (np.nan, np.nan)))
                row[f"{column} here"] = ""
                if name in result.coords["architecture"]:
                    values = claims.at_l0(result, name, metric, l0)
                    row[f"{column} here"] = _said(*mean_and_spread(values))
            rows.append(row)
    page.table(Table(rows), "published", scroll=False)


def _said(mean: float, sd: float) -> str:
    """A mean with its standard deviation; nothing where there is none."""
    spread = f" ± {sd:.3f}" if sd >= 0.0005 else " ± <0.001"
    spread = spread if np.isfinite(sd) else ""
    return f"{mean:.3f}{spread}" if np.isfinite(mean) else ""
