"""The page of a sweep: heat maps, published maps beside them, frontier, training, table, settings."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from saejax import claims, plots, published
from saejax.pictures import COMPARED, TRACKED
from saejax.report.page import Page
from saejax.result import Result
from saejax.runlog import load
from saejax.sweep import AXES
from saejax.table import Table, show

HEATMAPS = ("mmcs_true_to_dict", "mse", "mmcs_to_next_larger", "dead_latents")


class Variant(NamedTuple):
    """One (lr, resample, architecture) of a sweep: how files, headings and `Result.select` call it."""

    suffix: str
    words: str
    where: dict[str, Any]


def variants(result: Result) -> list[Variant]:
    """The result's variants with their names, which are empty where no such axis is swept."""
    return [
        Variant(
            "".join(f"_{name}-{value}" for name, value in where.items()),
            "".join(f", {name} = {value}" for name, value in where.items()),
            where,
        )
        for where in result.variants
    ]


def comparisons(result: Result) -> Table:
    """Spearman's rank correlation of each heat map with its published one, where there is one.

    With several seeds the row also has the lowest and the highest of the single seeds; with several
    learning rates or with and without resampling there are rows for each.
    """
    rows = []
    for dataset in result.coords["dataset"]:
        for metric in HEATMAPS:
            for variant in variants(result):
                pair = published.beside(result, dataset, metric, **variant.where)
                if pair is None:
                    continue
                row: dict[str, Any] = {"dataset": dataset, "metric": metric, **variant.where}
                row["spearman"] = published.rank_correlation(*pair)
                row["cells"] = int(np.isfinite(pair[0]).sum())
                seeds = [
                    published.rank_correlation(*own)
                    for s in result.coords["seed"]
                    if (own := published.beside(result, dataset, metric, seed=s, **variant.where))
                    is not None
                ]
                if len(result.coords["seed"]) > 1:
                    row["lowest_seed"] = min(seeds, default=None)
                    row["highest_seed"] = max(seeds, default=None)
                rows.append(row)
    return Table(rows)


def heatmaps(result: Result, variant: Variant) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of each heat map of one variant."""
    for metric in (*HEATMAPS, *result.own_metrics):
        if metric in result.final and np.isfinite(result.final[metric]).any():
            axis = _sparsity(result, variant)
            caption = f"{plots.title_of(metric)} over {axis} and dictionary ratio{variant.words}."
            picture = result.plot_heatmap(metric, **variant.where)
            yield f"heatmap_{metric}{variant.suffix}", caption, picture


def _sparsity(result: Result, variant: Variant) -> str:
    """What the axis is called along which the SAEs of a variant become sparser."""
    return {"l1": "L1", "k": "k"}[result.sparsity(**variant.where)[0]]


def beside_published(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of each heat map that has a published one."""
    rows = comparisons(result)
    for variant in variants(result):
        ratios, l1 = published.shared(result, **variant.where)
        for row in rows:
            dataset, metric = row["dataset"], row["metric"]
            if any(row[axis] != value for axis, value in variant.where.items()):
                continue
            pair = published.beside(result, dataset, metric, **variant.where)
            assert pair is not None
            picture = plots.beside_published(*pair, ratios, l1, metric, row["spearman"])
            caption = (
                f"{plots.title_of(metric)}, {dataset} data{variant.words}, beside the published map "
                f"({published.grid()['note']})."
            )
            yield f"published_{metric}_{dataset}{variant.suffix}", caption, picture


def frontier(result: Result, variant: Variant) -> tuple[str, str, Figure]:
    """Name, caption and picture of the trade between sparsity and reconstruction."""
    axis = _sparsity(result, variant)
    caption = f"Every SAE as a point; a line joins the {axis} values of one ratio{variant.words}."
    return f"frontier{variant.suffix}", caption, result.plot_frontier(**variant.where)


def training(result: Result, variant: Variant) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of what is tracked over training, without what has frozen."""
    for dataset in result.coords["dataset"]:
        for metric, shown in TRACKED.items():
            if metric in result.history:
                caption = f"{shown.title} during training, {dataset} data{variant.words}."
                picture = result.plot_training(metric, dataset=dataset, **variant.where)
                yield f"training_{metric}_{dataset}{variant.suffix}", caption, picture


def architectures(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of all architectures at the same sparsity, for each ratio."""
    several = len(result.coords["architecture"])
    # Cells of one architecture that differ in more than L1 or k would make several lines of it.
    if several == 1 or len(result.variants) > several:
        return
    metrics = COMPARED if "mmcs_true_to_dict" in result.final else ("fvu", "dead_latents")
    for ratio in result.coords["ratio"]:
        caption = f"What each architecture reaches at which L0, ratio {ratio:g}; a point for each SAE."
        picture = result.plot_architectures(metrics, ratio=ratio)
        yield f"architectures_ratio-{ratio:g}", caption, picture


def build(path: Path) -> Page:
    """The page of a grid; arguments and errors as in `saejax.report.write`."""
    result = load(path)
    page = Page(path, f"saejax: {len(result.cells())} sparse autoencoders, one sweep")
    warnings(page, result)
    page.paragraph(setting_in_words(result))
    summary(page, result)
    if result.run.get("study", {}).get("name") == "grid":
        claimed(page, claims.of_grid(result))
    compared = comparisons(result)
    if compared:
        page.heading("Agreement with the published heat maps")
        page.paragraph(
            "Spearman's rank correlation over the cells that both have: 1 means that the SAEs are "
            "ordered alike, whatever the scale."
        )
        page.table(compared)
    each = variants(result)
    page.heading("Pictures")
    page.heading("At the end of training", level=3)
    for picture in architectures(result):
        page.figure(*picture)
    for variant in each:
        for picture in heatmaps(result, variant):
            page.figure(*picture)
    for variant in each:
        page.figure(*frontier(result, variant))
    page.heading("During training", level=3)
    for variant in each:
        for picture in training(result, variant):
            page.figure(*picture)
    if compared:
        page.heading("Beside the published maps", level=3)
        for picture in beside_published(result):
            page.figure(*picture)
    ending(page, result)
    return page


def warnings(page: Page, result: Result) -> None:
    """Says at the top of a page what did not go as planned."""
    planned, done = result.run["settings"]["steps"], int(result.steps[-1])
    if not result.run.get("finished"):
        page.paragraph(
            f"This run did not finish: it was measured up to step {done:,} of {planned:,}. Numbers "
            "are those of its last evaluation.",
            warning=True,
        )
    for row in result.table():
        if row["frozen_at"] is not None:
            at = ", ".join(f"{name}={show(row[name])}" for name in AXES)
            page.paragraph(
                f"The SAE at {at} was not finite at step {row['frozen_at']:,} and was frozen; it is "
                "grey in the heat maps.",
                warning=True,
            )


def claimed(page: Page, rows: Table) -> None:
    """What the published texts claim, a row each, with our figure and whether it holds."""
    if not rows:
        return
    page.heading("What the texts claim, and what this run says")
    page.paragraph(
        "Mean and standard deviation over seeds. A claim holds when the 95 % confidence interval of "
        "the mean lies on the claimed side, does not hold when it lies on the other, and is unclear "
        "otherwise; one seed alone has no interval. The ratio is the number of latents over that of "
        "true features. Where settings were chosen as the best of several on the same numbers, the "
        "answer says so: the true advantage is somewhat smaller."
    )
    page.table(rows, "claims", words=True, scroll=False)


def ending(page: Page, result: Result) -> None:
    """The end of every sweep's page: table of results, settings, how to repeat the run."""
    page.heading("All results")
    if len(result.coords["seed"]) > 1:
        page.paragraph("Mean and standard deviation over seeds.")
        page.table(result.table(over_seeds=True))
        page.paragraph("Single seeds:")
    page.table(result.table())
    page.heading("Settings")
    page.table(Table([{"setting": k, "value": v} for k, v in _settings(result.run)]))
    repeat(page, result.run)


def repeat(page: Page, run: dict[str, Any]) -> None:
    """How to run it again, where a command started it."""
    flags = page.path / "config.flags"
    if not flags.exists():
        return
    page.heading("To repeat this run")
    if "study" in run:
        page.verbatim(
            f"python -m saejax.experiments.{run['study']['name']} "
            f"--flagfile={shlex.quote(str(flags))} --workdir=NEW_FOLDER"
        )
    page.verbatim(flags.read_text(encoding="utf-8"))


def setting_in_words(result: Result) -> str:
    """What was trained on what, in a sentence or three."""
    run, steps = result.run, int(result.steps[-1])
    features = f", {run['n_features']} true features" if run["n_features"] else ""
    seconds = f" in {run['train_seconds']:.0f} s" if "train_seconds" in run else ""
    several = len(result.coords["seed"])
    square = f"the mean of {several} SAEs of different seeds" if several > 1 else "one SAE"
    return (
        f"Every square of a heat map and every line of a curve is {square}, trained for "
        f"{steps:,} steps of {run['settings']['batch_size']:,} fresh samples{seconds} on "
        f"{run['device']}. Data: {', '.join(run['data'])}; {run['d_in']} dimensions{features}. "
        "The ratio is the number of latents over that of "
        f"{'true features' if features else 'dimensions'}; grey squares have no value."
    )


def summary(page: Page, result: Result) -> None:
    """The best cell of every data set."""
    if "mmcs_true_to_dict" not in result.final:
        page.paragraph("The data set's true features are unknown: recovery was not measured.")
        return
    lines = []
    for name in result.coords["dataset"]:
        try:
            best = result.best("mmcs_true_to_dict", dataset=name)
        except ValueError:  # every cell of this data set was frozen
            continue
        spread = best.get("mmcs_true_to_dict_sd")
        spread = f" ± {spread:.3f}" if spread is not None and np.isfinite(spread) else ""
        kind = f"{best['architecture']}, " if len(result.coords["architecture"]) > 1 else ""
        sparsity = f"k {best['k']}" if best["k"] else f"L1 {best['l1']:.2g}"
        lines.append(
            f"{name}: the true features are recovered best with {kind}{sparsity} and ratio "
            f"{best['ratio']:g} (d_sae {best['d_sae']}), MMCS "
            f"{best['mmcs_true_to_dict']:.3f}{spread}, L0 {best['l0']:.2f}, fvu {best['fvu']:.3f}."
        )
    page.points(lines)


def _settings(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, values in run["coords"].items():
        yield name, ", ".join(show(v) for v in values)
    for name, value in run["settings"].items():
        for key, inner in value.items() if isinstance(value, dict) else [("", value)]:
            yield f"{name} {key}".strip(), str(inner)
    for name, value in run["data"].items():
        yield f"data: {name}", ", ".join(f"{k} {v}" for k, v in value.items())
    yield "device", run["device"]
    if "train_seconds" in run:
        rate = run["flops_per_step"] * run["settings"]["steps"] / run["train_seconds"]
        yield "compilation", f"{run['compile_seconds']:.1f} s"
        yield "training", f"{run['train_seconds']:.1f} s, {rate / 1e12:.3g} TFLOP/s"
    yield "versions", ", ".join(f"{k} {v}" for k, v in run["versions"].items())
