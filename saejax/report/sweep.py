"""What the pages of all sweeps share: warnings, the claims of a text, all results, settings."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saejax.core.table import Table, show
from saejax.report.page import Page
from saejax.results.axes import AXES
from saejax.results.result import Result
from saejax.results.saving import load


def opening(path: Path, title: str) -> tuple[Page, Result]:
    """The page of a sweep up to its best SAEs, and the sweep.

    Args:
        path: the workdir.
        title: of the page, in which {n} is the number of SAEs.
    """
    result = load(path)
    page = Page(path, title.format(n=len(result.cells())))
    warnings(page, result)
    page.paragraph(setting_in_words(result))
    summary(page, result)
    return page, result


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
            coords = ", ".join(f"{name}={show(row[name])}" for name in AXES)
            page.paragraph(
                f"The SAE at {coords} was not finite at step {row['frozen_at']:,} and was frozen; "
                "it is grey in the heat maps.",
                warning=True,
            )


def claimed(page: Page, rows: Table) -> None:
    """What the published texts claim, a row each, with our figure and whether it holds."""
    if not rows:
        return
    page.heading("What the texts claim, and what this run says")
    page.paragraph(
        "Mean and standard deviation over seeds. A claim holds when the 95 % confidence interval "
        "of the mean lies on the claimed side, does not hold when it lies on the other, and is "
        "unclear otherwise; one seed alone has no interval. The ratio is the number of latents "
        "over that of true features. Where settings were chosen as the best of several on the "
        "same numbers, the answer says so: the true advantage is somewhat smaller."
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
        command = f"python -m saejax.experiments.{run['study']['name']}"
        page.verbatim(f"{command} --flagfile={shlex.quote(str(flags))} --workdir=NEW_FOLDER")
    page.verbatim(flags.read_text(encoding="utf-8"))


def setting_in_words(result: Result) -> str:
    """What was trained on what, in a sentence or three."""
    run, steps, seeds = result.run, int(result.steps[-1]), len(result.coords["seed"])
    features = f", {run['n_features']} true features" if run["n_features"] else ""
    seconds = f" in {run['train_seconds']:.0f} s" if "train_seconds" in run else ""
    square = f"the mean of {seeds} SAEs of different seeds" if seeds > 1 else "one SAE"
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
