"""The page of the grid study, and of every sweep that no study made."""

from pathlib import Path

from saejax.experiments.grid import claims
from saejax.experiments.grid.figures import beside_published, comparisons
from saejax.report.page import Page
from saejax.report.sweep import claimed, ending, opening
from saejax.results.figures import architectures, frontier, heatmaps, training, variants


def build(path: Path) -> Page:
    """The page of a grid; arguments and errors as in `saejax.report.write`."""
    page, result = opening(path, "saejax: {n} sparse autoencoders, one sweep")
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
